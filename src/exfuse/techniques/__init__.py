"""The five techniques, for this project's models and for any other network of torch's.

They need nothing of this project's models: `exfuse.AdjacentPrediction` (DAP, with ``WideControl``, ``WideKernel``,
``LargerKernel`` and ``LastBlockPrediction``), `exfuse.ProductEmbedding` (SEB, with ``SumEmbedding``, ``GateEmbedding`` and
``ConcatEmbedding``), `exfuse.SubpixelConvolution` (ECRE's upsampling), `exfuse.SemanticBranches` (SS) and `exfuse.rearranged`
(LR). `exfuse.accelerate` gives those that have one a faster form for training.
"""
