#!/usr/bin/env bash
# What common random numbers buy: one difference on the generated scenes, from paired and from independent seeds.
# Nine runs, CPU: the baseline with seeds 0..2, SEB with 0..2 (paired with them) and with 3..5 (independent of them).
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
here=experiments/common_random_numbers
settings="trainer=cpu runtime.threads=1 runtime.workers=1 trainer.enable_progress_bar=false backbone.init=random"
settings+=" recipe=demo data.size=128 data.root=data/demo_scenes paths.runs=outputs/common_random_numbers/runs"
for ablation in baseline seb; do
    seeds=$([ $ablation = baseline ] && echo 0,1,2 || echo 0,1,2,3,4,5)
    for process in 1 2; do  # two sweeps at once share the work
        $python -m src.train -m +ablation=$ablation seed=$seeds $settings \
            sweep.output=outputs/common_random_numbers/$ablation$process &
    done
    wait
done
$python $here/compare.py outputs/common_random_numbers/baseline1 outputs/common_random_numbers/seb1 | tee $here/result.txt
