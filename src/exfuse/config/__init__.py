"""Reading configs. Whatever composes one imports from here, so that Hydra knows the table's defaults."""

from exfuse.config.slots import register_slots

register_slots()
