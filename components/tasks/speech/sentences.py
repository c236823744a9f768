"""What the sample's speakers say: commands by a grammar that is known, and everything else.

Rules are in JSpeech Grammar Format: alternatives, groups, and names of other rules.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

COMMAND, TALK = "command", "talk"
KINDS = (COMMAND, TALK)

_SHARED: Mapping[str, str] = {
    "thing": "door | window | gate | engine | pump | camera | light | heater | fan | printer | "
    "elevator | basket | bottle",
    "place": "kitchen | garage | office | garden | storage room | loading dock | second floor | "
    "workshop | parking lot | main entrance | station",
    "number": "two | three | four | five | six | seven | nine | ten | twelve | fifteen | twenty | "
    "thirty | fifty",
    "goods": "boxes | letters | chairs | tables | bottles | tools | plates | bags | tickets",
    "person": "the driver | the manager | the doctor | my brother | the nurse | my sister",
    "quality": "red | blue | green | old | new | heavy",
}
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "command": "please (open | close | check | lock | clean | repair) the <thing> in the "
        "<place> | turn (on | off) the <thing> and wait <number> minutes | bring <number> <goods> "
        "to the <place> | call <person> and ask about the <quality> <thing> | move the <quality> "
        "<thing> to the <place> and (come back | stop there | wait for me)",
        **_SHARED,
    }
)
"""The first rule is public."""
_TALK: Mapping[str, str] = MappingProxyType(
    {
        "talk": "<who> (told me | said | believed) that the <subject> was <state> <when> | <when> "
        "<who> (went | walked | travelled) to the <town> because the <subject> was <state> | I do "
        "not know why <who> (forgot | sold | painted | lost) the <subject> <when> | nobody in the "
        "<town> remembers how the <subject> became <state> | we would like to visit the <town> "
        "with <who> <when>",
        "who": "my grandmother | the young teacher | our captain | an old friend | the mayor | "
        "her cousin | the farmer | his daughter",
        "subject": "weather | concert | bridge | river | history book | restaurant | football "
        "match | mountain road | library | picture of the queen",
        "state": "wonderful | terrible | very expensive | almost empty | difficult to find | "
        "too dangerous | famous in many countries | rather disappointing",
        "when": "last summer | in the morning | during the holidays | after the storm | before "
        "dinner | when it was dark | at the end of the year",
        "town": "capital city | village by the sea | university | museum of science | airport | "
        "market square | theatre",
    }
)
_GROUP = re.compile(r"\(([^()]*)\)")
_NAME = re.compile(r"<([a-z]+)>")


def sentence(rng: np.random.Generator, kind: str) -> str:
    """One sentence of a kind, without punctuation."""
    rules = COMMANDS if kind == COMMAND else _TALK
    return _one_of(rng, rules, next(iter(rules.values())))


def _one_of(rng: np.random.Generator, rules: Mapping[str, str], rule: str) -> str:
    chosen = rule
    while match := _GROUP.search(chosen):
        # An alternative in a group is chosen before those around it.
        chosen = chosen[: match.start()] + _alternative(rng, match[1]) + chosen[match.end() :]
    chosen = _alternative(rng, chosen)
    return " ".join(_NAME.sub(lambda name: _one_of(rng, rules, rules[name[1]]), chosen).split())


def _alternative(rng: np.random.Generator, rule: str) -> str:
    options = rule.split("|")
    return options[int(rng.integers(len(options)))].strip()


def as_grammar() -> str:
    """The commands as a grammar file."""
    (public, rule), *others = COMMANDS.items()
    lines = [f"public <{public}> = {rule};", *(f"<{name}> = {text};" for name, text in others)]
    return "\n".join(["#JSGF V1.0;", "grammar commands;", *lines, ""])
