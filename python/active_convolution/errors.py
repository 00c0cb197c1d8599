"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """Bad input or a missing tool. The message is one line that names the thing and the remedy."""


class BadValue(UserError):
    """An option has a value that it cannot have, whatever the files say."""
