"""Machine providers for Ray's autoscaler: spot machines first, others where spot is refused.

Ray 2.60 prefers another machine type after a machine that was allocated did not come up in time,
but not after a refusal: it asks for the refused type again, round after round. So the choice is
made below it, where a machine is bought.
"""
