"""The job behind the benchmark: taking people out of a model that is in use, with a record of it.

While the training data exist a kit is made (``kit``); when somebody asks, the kit chooses a method
by S (``erase``), and what happened is written down (``certificate``). Runs no method itself and
draws no hyperparameters: that is ``sweeps.erasure``.
"""
