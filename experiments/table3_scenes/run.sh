#!/usr/bin/env bash
# Of commit df45ca2, whose options and study these are: git checkout df45ca2 first. Today's runs have other keys.
# The paper's table 3, with DAP narrow, on generated scenes: 7 variants x 3 seeds, backbones pretrained on objects of the scenes.
# Needs nothing but this repository. What is finished is not made again: run it as often as you like.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
settings="trainer=cpu runtime.threads=1 runtime.workers=1 trainer.enable_progress_bar=false recipe=demo pretraining/recipe=demo"
settings+=" data.size=128 data.root=data/demo_scenes"
study="+study=table3_last $settings"
# Two sweeps at once share the work: each passes over what the other trains.
$python -m src.train $study sweep.output=outputs/table3_scenes/first &
$python -m src.train $study sweep.output=outputs/table3_scenes/second
wait
$python -m src.train $study sweep.output=experiments/table3_scenes
