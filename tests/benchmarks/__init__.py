import pytest
import torch

# Every benchmark is made for both; without a CUDA GPU it is tried on the CPU alone.
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))]
