"""Any exception -> exit status and one sentence for a terminal."""

from __future__ import annotations

from objfs.cli.show import show_text
from objfs.errors import ObjfsError, UsageError

FAILED, WRONG_USAGE = 1, 2


def describe_failure(error: BaseException) -> tuple[int, str]:
    """Exit status and sentence; the sentence is one line."""
    leaf = pick_leaf(error)
    status, sentence = _describe(leaf)
    return status, show_text(" ".join(sentence.split()))


def pick_leaf(error: BaseException) -> BaseException:
    """The exception to speak of in a group: the first of objfs's own, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [pick_leaf(inner) for inner in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, ObjfsError)), leaves[0])


def _describe(error: BaseException) -> tuple[int, str]:
    if isinstance(error, UsageError):
        return WRONG_USAGE, str(error)
    if isinstance(error, ObjfsError):
        return FAILED, str(error)
    format_message = getattr(error, "format_message", None)
    if callable(format_message):  # typer's own errors, whose classes moved between its releases
        path = getattr(getattr(error, "ctx", None), "command_path", "objfs")
        return WRONG_USAGE, f"{_lower_first(str(format_message()))} See '{path} --help'."
    exit_code = getattr(error, "exit_code", None)
    if isinstance(exit_code, int):
        return exit_code, ""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return FAILED, f"{where}{error.strerror}."
    return FAILED, f"internal error ({type(error).__name__}: {error}); please report it."


def _lower_first(text: str) -> str:
    """'Missing argument' after 'objfs:', with an end."""
    text = text[:1].lower() + text[1:]
    return text if text.endswith((".", ")", "?")) else text + "."
