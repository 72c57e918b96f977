"""``exfuse chain``: stages that each start from the one before."""

from omegaconf import DictConfig
from rich.console import Console


def main(config: DictConfig) -> None:
    """Plan the chain, show it and, unless only the plan was asked for, train it."""
    from exfuse.sweeps.chain import chain_table, plan_chain, run_chain  # torch loads in the stages' own processes alone

    stages, console = plan_chain(config.chain.stages, [str(override) for override in config.overrides]), Console()
    console.print(chain_table(stages))
    if not config.plan:
        run_chain(stages, console)
        console.print(chain_table(stages))
        console.print(f"The model of the last stage: {stages[-1].folder.path}", soft_wrap=True)
