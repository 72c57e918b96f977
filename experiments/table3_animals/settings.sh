# What both studies on VOC's animal images share, so that they share runs. Sourced by their run.sh.
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
common="data=voc_animals trainer=cpu runtime.threads=1 runtime.workers=1 trainer.enable_progress_bar=false"
common+=" pretraining.recipe.epochs=40 pretraining.recipe.augmentation.size=96 pretraining.recipe.evaluation.size=96"
common+=" paths.backbones=outputs/animals/backbones paths.runs=outputs/animals/runs"
segmentation="recipe=small recipe.epochs=16 recipe.augmentation.crop=64 recipe.long_side=128"
segmentation+=" recipe.lr=2e-3 recipe.encoder_lr_factor=1.0"

# Two sweeps at once share the work: each passes over what the other trains.
twice() {
    $python "$@" sweep.output=outputs/animals/first &
    $python "$@" sweep.output=outputs/animals/second
    wait
}
