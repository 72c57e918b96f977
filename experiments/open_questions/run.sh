#!/usr/bin/env bash
# Three studies x three seeds on two data sets:  experiments/open_questions/run.sh animals   (or camvid)
# Needs VOC_ANIMALS_AUG=.../VOCdevkit/VOC2012 or CAMVID=.../camvid, and pip install -e '.[efficientnet]'. What is finished is not
# made again: run it as often as you like. Tables and pages lie in outputs/NAME/STUDY.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
name=${1:?animals or camvid}
run() { $python -m exfuse "$@"; }
# chosen, by what two cores afford
settings=(trainer.accelerator=cpu trainer.precision=bf16-mixed trainer.enable_progress_bar=false runtime.channels_last=true
    runtime.threads=1 runtime.workers=0 backbone=efficientnet_lite0 backbone.init=package recipe.augmentation.crop=128
    paths.runs="outputs/$name/runs")
case $name in
    animals) settings+=(data=voc_animals_aug recipe=photos recipe.epochs=3 recipe.long_side=192) ;;
    camvid) settings+=(data=camvid recipe=small recipe.epochs=10 recipe.long_side=240) ;;
    *) echo "$name: expected animals or camvid" >&2; exit 1 ;;
esac
for study in seb_fusion dap_kernel atrous; do
    run train +study=$study "${settings[@]}" sweep.output="outputs/$name/$study"
done
run report probe study="outputs/$name/seb_fusion" paths.runs="outputs/$name/runs"
# Costs of all rows together, in turns; wants a machine that does nothing else.
for study in seb_fusion dap_kernel atrous; do
    run report costs study="outputs/$name/$study" paths.runs="outputs/$name/runs" runtime.threads=1
done
