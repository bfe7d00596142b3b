"""Accounts: a volunteer makes one, and gets its token."""

from enum import StrEnum

from shared.protocol import Message, ShortText, Slug


class Role(StrEnum):
    """The role of an account. Maintainers give all roles but `volunteer`."""

    VOLUNTEER = "volunteer"
    MAINTAINER = "maintainer"
    RESEARCHER = "researcher"


class SignUp(Message):
    """A new volunteer; `label` says what the token is for."""

    name: Slug
    label: ShortText = "worker"


class Account(Message):
    """The account, and its token, which is shown this once."""

    volunteer: Slug
    token: str
