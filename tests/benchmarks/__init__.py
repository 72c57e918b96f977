import pytest
import torch

# Every benchmark is made for both; a session without a CUDA GPU tries it on the CPU alone.
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))]
