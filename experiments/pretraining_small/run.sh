#!/usr/bin/env bash
# Twelve backbones pretrained on objects cut from VOC's animal images, then the segmentation that each leads to.
# Needs VOC_ANIMALS=.../VOCdevkit/VOC2012; two processes of one thread each. What is finished is not made again.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
common="data=voc_animals trainer=cpu runtime.threads=1 runtime.workers=1 trainer.enable_progress_bar=false"
common+=" pretraining.recipe.epochs=40 pretraining.recipe.augmentation.size=96 pretraining.recipe.evaluation.size=96"
common+=" paths.backbones=outputs/pretraining_small/backbones"
segment="recipe=small recipe.epochs=20 recipe.augmentation.crop=128 recipe.long_side=192 paths.runs=outputs/pretraining_small/runs"
{
    for seed in 0 1 2; do
        for options in "technique/ss=none technique/lr=standard" "technique/ss=heads_removed technique/lr=standard" \
            "technique/ss=none technique/lr=rearranged" "technique/ss=heads_removed technique/lr=rearranged"; do
            echo "-m src.pretrain $options seed=$seed $common"
        done
    done
} | xargs -P 2 -I{} sh -c '${PYTHON:-.venv/bin/python} {}'
{
    for seed in 0 1 2; do
        for lr in standard rearranged; do
            for ss in none heads_removed second_conv_features; do
                echo "-m src.train technique/ss=$ss technique/lr=$lr seed=$seed $common $segment"
            done
        done
    done
} | xargs -P 2 -I{} sh -c '${PYTHON:-.venv/bin/python} {}'
