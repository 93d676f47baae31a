"""Audits of a model that has unlearned: what comes back, who is recognised, who can tell."""
