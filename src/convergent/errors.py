"""The one exception for what a user can mend."""


class InputError(ValueError):
    """A user's mistake, in one sentence: what was needed, what came, what to do.

    Commands print the sentence and exit with 1; everything else that goes wrong keeps its traceback.
    """
