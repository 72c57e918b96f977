"""Reading configs. Whatever composes one imports from here, so that the table's defaults are known to Hydra."""

from exfuse.config.slots import register_slots

register_slots()
