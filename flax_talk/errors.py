"""The one exception a user is meant to see.

Everything a user can get wrong (a missing file, a still without a face, a checkpoint of
another system) raises `UserError` with one line that says what, where and what to do. The
commands print that line and exit with code 2; library users catch it like any exception.
"""


class UserError(Exception):
    """A mistake that the user can mend; its text is one line: what, where, what to do."""
