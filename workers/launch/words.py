"""Tells words of a command line that stand by themselves, files say, from options and their values."""

from collections.abc import Sequence

from workers.launch.cli import Command


def split(command: Command, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that belong to no option, and all others, in order. Behind ``--`` all are such words.

    An option takes one word, a list all up to the next option, and what is true or false none.
    """
    flags = {flag: option for option in command.options.values() for flag in (option.flag, *option.flags)}
    words: list[str] = []
    others: list[str] = []
    takes = 0.0
    for i, argument in enumerate(arguments):
        if argument == "--":
            return words + list(arguments[i + 1 :]), others
        if argument.startswith("-") and argument != "-":
            name, equals, _ = argument.partition("=")
            option = flags.get(name if name in flags else name.replace("_", "-"))
            is_list = option is not None and (option.listed or option.type == tuple[int, ...])
            has_value = option is not None and option.type not in (bool, bool | None) and not equals
            takes = (float("inf") if is_list else 1) if has_value else 0
            others.append(argument)
        elif takes:
            takes -= 1
            others.append(argument)
        else:
            words.append(argument)
    return words, others
