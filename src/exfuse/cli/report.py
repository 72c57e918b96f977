"""Look at a study instead of reading it:  python -m src.report page study=outputs/studies/demo

The first word says what to make; the rest are overrides of conf/report_WORD.yaml (--help lists them).
"""

import importlib
import sys
from typing import NamedTuple

import hydra
from omegaconf import DictConfig

from exfuse.cli import running as cli
from exfuse.files import CONFIG_DIR


class _Kind(NamedTuple):
    module: str
    function: str
    makes: str


_KINDS: dict[str, _Kind] = {
    "page": _Kind("exfuse.reports.page.command", "make", "one HTML file a study, to open in any browser"),
    "features": _Kind(
        "exfuse.reports.features.command", "show_features", "what SEB does to low-level maps: pictures and numbers"
    ),
    "probe": _Kind("exfuse.reports.probe.command", "probe_features", "what a linear classifier reads from maps around SEB"),
    "costs": _Kind(
        "exfuse.reports.costs.command", "measure_costs", "latency, throughput and memory of all rows, in one process"
    ),
    "wandb": _Kind("exfuse.reports.wandb_report", "report_to_wandb", "a comparison report and a saved workspace view at W&B"),
}


def main() -> None:
    """Read the first word and hand the rest to Hydra."""
    if len(sys.argv) < 2 or sys.argv[1] not in _KINDS:
        _explain(asked=" ".join(sys.argv[1:2]))
    word = sys.argv.pop(1)
    # conf/study is a config group, for which Hydra would take study=FOLDER: the key is study.folder
    sys.argv = [f"study.folder={text.removeprefix('study=')}" if text.startswith("study=") else text for text in sys.argv]

    @hydra.main(config_path=str(CONFIG_DIR), config_name=f"report_{word}", version_base="1.3")
    @cli.task
    def make(config: DictConfig) -> None:
        # torch and wandb load only for what needs them, once the config is known to compose
        kind = _KINDS[word]
        getattr(importlib.import_module(kind.module), kind.function)(config)

    cli.run(make, f"report_{word}")


def _explain(asked: str) -> None:
    print(__doc__)
    for word, kind in _KINDS.items():
        print(f"  python -m src.report {word:<9} {kind.makes}")
    if asked not in ("", "--help", "-h"):
        sys.exit(f"\nError: there is no report {asked!r}: expected {', '.join(_KINDS)}.")
    sys.exit(0 if asked else 2)


if __name__ == "__main__":
    main()
