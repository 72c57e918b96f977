"""The defaults of the technique groups, from the table of techniques."""

from hydra.core.config_store import ConfigStore

from exfuse.store.variants import baseline


def register_slots() -> None:
    """Let ``- slots`` in a defaults list choose the baseline's option of every technique that the config search path holds.

    To be called again when folders are added to that path.

    Raises:
        ConfigError: if the table cannot be read.
    """
    defaults = [{f"technique/{name}": option} for name, option in baseline().items()]
    ConfigStore.instance().store("slots", {"defaults": defaults})
