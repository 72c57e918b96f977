"""Train the paper's three stages:  python -m src.chain +ablation=exfuse backbone=resnext131_32x4d trainer=ddp

COCO + SBD + VOC, then SBD + VOC, then VOC: each stage is a run that starts from the whole model of the one before. The same
command skips what is done and goes on where an interrupted stage stopped; a failed one stops the chain with its reason.

  chain=three_stages_test    the last stage on trainval, for the test server (choices: conf/chain)
  chain.stages.sbd.recipe=gcn, 'chain.stages.voc.overrides=["recipe.epochs=30"]'     of one stage
  --plan                     show the stages, their images and keys, and train nothing
  all others                 overrides of every stage, as python -m src.train takes them; data.root=, data.sbd_root= and
                             data.coco_root= reach the stages that read them, paths.data=DIR all that `make data-*` fetched
"""

import sys

from rich.console import Console

from exfuse.cli import running as cli

_PLAN = "--plan"


def main() -> None:
    """Read the command line, plan the chain and train it."""
    from exfuse.sweeps.chain import chain_table, plan_chain, run_chain  # torch loads in the stages' own processes alone

    arguments = sys.argv[1:]
    typed = [argument for argument in arguments if argument != _PLAN]
    chain = [argument for argument in typed if argument.startswith(("chain=", "chain."))]
    stages = plan_chain(chain, [argument for argument in typed if argument not in chain])
    console = Console()
    console.print(chain_table(stages))
    if _PLAN in arguments:
        return
    run_chain(stages, console)
    console.print(chain_table(stages))
    console.print(f"The model of the last stage: {stages[-1].folder.path}", soft_wrap=True)


if __name__ == "__main__":
    if {"-h", "--help"} & {*sys.argv[1:]}:
        print(__doc__)
        sys.exit()
    if words := [word for word in sys.argv[1:] if word.startswith("-") and word != _PLAN]:
        sys.exit(f"Error: {words[0]}: the only option is {_PLAN}; a chain per seed: start it once for each. See --help.")
    cli.run(main, "train")
