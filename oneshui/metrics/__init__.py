"""How good a model is (``scores``) and how close to retraining it comes (``tow``)."""
