"""An answer that is an error: the code that programs match on, the sentence that people read, the HTTP status."""

from __future__ import annotations

from vmferry.errors import VmferryError


class ApiError(VmferryError):
    """What a front end answers instead of a result. ``str(error)`` is the message of the answer.

    Where AWS has a sentence of its own it stands first, word for word, because scripts match on it; what vmferry adds
    follows after ``" | "``.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message, code=code, status=status)
        self.code = code
        self.status = status
        self.client_fault = status < 500
        self.retryable = status >= 500
