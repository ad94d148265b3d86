"""The error that is shown to a user as one or two lines, without a traceback."""


class UserError(ValueError):
    """Something the user can mend: the message names the file, key or value, and what to do."""
