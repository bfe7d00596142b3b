"""Accounts: a volunteer makes one, and gets its token."""

from shared.protocol import Message, ShortText, Slug


class SignUp(Message):
    """A new volunteer; `label` says what the token is for."""

    name: Slug
    label: ShortText = "worker"


class Account(Message):
    """The account, and its token, which is shown this once."""

    volunteer: Slug
    token: str
