#!/usr/bin/env bash
# Of commit f7cf98e, whose options and study these are: git checkout f7cf98e first. Today's runs have other keys.
# Twelve backbones pretrained on objects cut from VOC's animal images, then the segmentation that each leads to.
# Needs VOC_ANIMALS=.../VOCdevkit/VOC2012. What is finished is not made again: run it as often as you like.
set -euo pipefail
cd "$(dirname "$0")/../.."
. experiments/table3_animals/settings.sh
twice -m src.pretrain -m technique/ss=none,heads_removed technique/lr=standard,rearranged seed=0,1,2 $common
twice -m src.train +study=pretraining $common $segmentation
$python -m src.train +study=pretraining $common $segmentation sweep.output=experiments/pretraining_small
$python -m src.summarise outputs/animals/backbones --csv experiments/pretraining_small/backbones.csv
