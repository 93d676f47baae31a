"""What a provider that is asked for leftovers may fail to say."""


class NoAnswerError(Exception):
    """A provider does not answer or refuses, or a part of it: something may be left there."""
