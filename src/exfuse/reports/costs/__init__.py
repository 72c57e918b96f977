"""Costs of all rows of a study, measured again beside one another in one process, so that they can be compared.

A row's model is built from its record's config with random weights; no data set is needed. What is measured:

- **Latency**: one evaluation of a (1, 3, S, S) image in float32, S the recipe's crop, as `exfuse.runs.costs.latency_ms` does.
- **Throughput**: images a second of optimiser steps of the real task on random images: forward, losses, backward, clipping of
  gradients and the optimiser, in the run's precision and (CUDA) TF32, and in its memory layout: for ``auto`` the one that a
  training would choose on this device. ``costs.json`` and the table name it. Loading images, Lightning's loop, logging,
  validation and several devices are not in it: it is what the device could do, a run's own number is lower.
- **Memory**: the peak of training steps. On CUDA that of the allocator. A CPU has no such count: there a process for each row,
  with torch loaded, takes three steps and says what it held at most.

Rows take turns, a, b, c, a, b, c, ...: a drift of the machine hits all alike. Medians and quartiles are over rounds.
"""
