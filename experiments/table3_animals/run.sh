#!/usr/bin/env bash
# Of commit f7cf98e, whose options and study these are: git checkout f7cf98e first. Today's runs have other keys.
# The paper's table 3, with DAP narrow, on VOC's animal images: 7 variants x 3 seeds, backbones pretrained on object crops.
# Needs VOC_ANIMALS=.../VOCdevkit/VOC2012. What is finished is not made again: run it as often as you like.
set -euo pipefail
cd "$(dirname "$0")/../.."
. experiments/table3_animals/settings.sh
twice -m src.pretrain -m +ablation=baseline,ss,ss_lr seed=0,1,2 $common
twice -m src.train +study=table3_last $common $segmentation
$python -m src.train +study=table3_last $common $segmentation sweep.output=experiments/table3_animals
