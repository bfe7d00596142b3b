"""Reads from words which step they name: what is changed, in which direction, and to which value. Pure.

`EMBEDDING_LR 0.6 to 0.8`, `raise the embedding learning rate to .8` and `embedding lr: 0.6 -> 0.8` are one step. An
axis is compared by its words, in which abbreviations and synonyms of the field count as the same.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from coordinator.experiments.tokenizer import list_words
from coordinator.findings.axes import name_key, words_of
from shared.experiments import AxisDirection

MAX_TEXT, KEPT = 2_000, 4_000
"""Characters of a text that are read, and number of texts that are kept as read: one is asked for several times."""

MAX_WORDS = 4
"""Words of an axis; more are a sentence that only mentions it."""


_NUMBER = r"[-+]?(?:\d[\d_]*(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?(?:(?:\^|\*\*)[-+]?\d+)?(?:/\d+(?:\.\d+)?)?"
_UNIT = r"(?:\s?%|\s?percent\b|(?!(?:th|st|nd|rd|d)\b)[A-Za-z\N{MICRO SIGN}]{1,4}\b(?![-+*/^]\w))?"
_VALUE = rf"(?:{_NUMBER}{_UNIT})"
VALUE = re.compile(rf"(?<![\w.]){_VALUE}")
_WORD = r"(?:[A-Za-z][\w^*²/-]*)"
_TO = r"(?:->|=>|→|⇒|-->|to|TO)"
_ON = r"\s*(?:->|=>|→|⇒)"
"""A third value: what follows is a schedule, and no step."""

_UP = words_of(
    "increas rais enlarg widen deepen grow grew grown higher more larger bigger longer stronger wider deeper boost "
    "doubl twice tripl extend expand strengthen lengthen bump push up add greater enabl activate activated "
    "activating introduc includ loosen looser relax"
)
_DOWN = words_of(
    "reduc decreas lower shrink shrunk halv half cut shorten less smaller shorter weaker narrower narrow drop fewer "
    "down remov disabl deactiv without no off shallower lighten strip elimin omit exclud ablat delet slash trim weaken "
    "tighten tighter"
)
_NEUTRAL = words_of(
    "set keep leave chang change use using try trying tri tried tune fine-tune switch make bring test sweep adjust "
    "move has have had been anybody anyone somebody someone was were fix captur turn put take run train perform appli "
    "employ implement adopt insert is are does do did with a an the of by at our its only just also back new total "
    "value default again"
)
_AFTERWARDS = words_of(
    "from to down up on off over for every raised increased lowered reduced decreased doubled halved tripled enlarged "
    "widened shortened lengthened removed added disabled enabled "
    "higher lower larger smaller bigger longer shorter wider deeper narrower"
)
"""Words that end an axis, before its value."""

_DIMENSIONS = {
    "wider": "width", "widen": "width", "widening": "width", "narrower": "width", "narrow": "width", "deeper": "depth",
    "deepen": "depth", "shallower": "depth",
}  # fmt: skip
"""Quantities of a network as a whole, by the words that change them."""

DIMENSIONS = frozenset(_DIMENSIONS.values())

_FACTORS = {"double": "2x", "doubled": "2x", "doubling": "2x", "twice": "2x", "triple": "3x", "tripled": "3x",
            "halve": "0.5x", "halved": "0.5x", "halving": "0.5x", "half": "0.5x"}  # fmt: skip
_WORD_NUMBERS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "twelve": "12", "sixteen": "16", "twenty": "20",
}  # fmt: skip
_COUNTS = re.compile(rf"\b(?:{'|'.join(list(_WORD_NUMBERS)[2:])})\b", re.IGNORECASE)
_FRACTIONS = {
    "a half": "1/2",
    "a quarter": "1/4",
    "one quarter": "1/4",
    "a third": "1/3",
    "a tenth": "1/10",
    "half of": "1/2 of",
}

_START = r"^[^A-Za-z]*"  # an axis begins with the first word, so that one try is enough
_BEFORE = rf"{_START}(?P<axis>[A-Za-z].*?)\s*[:=]?\s*(?:\bfrom\s+)?"
_TWO = re.compile(rf"{_BEFORE}(?P<old>{_VALUE})\s*{_TO}\s*(?P<new>{_VALUE})(?!\d|{_ON})", re.IGNORECASE)
_TWO_WORDS = re.compile(rf"{_BEFORE}(?<![\w^*²/-])(?P<old>{_WORD})\s*(?:->|=>|→|⇒|-->)\s*(?P<new>{_WORD})")
_LETTERS = re.compile(rf"{_START}(?P<axis>[A-Za-z].*?)\s+(?P<new>[B-DF-HJ-NP-TV-XZ]{{4,}})$")
_ANY = r"[\w.^*²/-]+"
_FROM_TO = re.compile(
    rf"{_START}(?P<axis>[A-Za-z].*?)\s+from\s+(?P<old>{_ANY})\s+(?:down\s+|up\s+)?to\s+(?P<new>{_ANY})", re.IGNORECASE
)
_CAPITALS = re.compile(rf"{_START}(?P<axis>[A-Za-z].*?)\s+(?P<old>[A-Z]{{3,}})\s+to\s+(?P<new>[A-Z]{{3,}})\b")
_ONE = re.compile(
    rf"{_START}(?P<axis>[A-Za-z].*?)\s*(?:\b(?:down\s+to|up\s+to|to|of|at|is|was|be|norm)\b|=|:)\s*"
    rf"(?P<new>{_VALUE})(?![\w.*/^])",
    re.IGNORECASE,
)
_BARE = re.compile(rf"{_START}(?P<axis>[A-Za-z].*?)\s+(?P<new>{_VALUE})(?![\w.*/^]|-[a-z])", re.IGNORECASE)
_COUNTING = re.compile(r"(^|\s)(in|on|all|first|last|top|than|vs|x|~|created|with)$|^[a-z]+ed$", re.IGNORECASE)
"""Words before a number that only counts: FMA in 2-bit kernels, added 4 tests."""

_VALUE_FIRST = re.compile(rf"^(?P<new>{_VALUE})\s+(?:of\s+)?(?P<axis>{_WORD}.*)", re.IGNORECASE)
_TWO_FIRST = re.compile(rf"^(?P<old>{_VALUE})\s*{_TO}\s*(?P<new>{_VALUE})\s+(?P<axis>{_WORD}.*)", re.IGNORECASE)
_SWAP = (
    re.compile(
        r"(?:swap\w*|replac\w*|chang\w*|switch\w*(?: from)?|exchang\w*)\s+(?P<old>.+?)\s+(?:for|with|by|to)\s+"
        r"(?P<new>.+)",
        re.IGNORECASE,
    ),
    re.compile(r"(?P<new>.+?)\s+(?:instead of|in place of|rather than)\s+(?P<old>.+)", re.IGNORECASE),
)
_ASIDE = re.compile(rf"^([^:(]*)\(\s*({_VALUE}\s*{_TO}\s*{_VALUE})(?!{_ON})[^)]*\)", re.IGNORECASE)
_LABEL = re.compile(
    r"^(?:hypothesis|idea|bottleneck(?!:[^.;]*[.;]\s)|change|test|try|exp\w*\s*\d*)\s*:\s+|^(?-i:COMBO|CREATIVE|FINAL|BEST)\s+(?=[a-z])|"
    r"^(?:exp|experiment|phase|round)\s?#?\d+[\s:.)-]+|^(?-i:R)\d{1,3}[a-z]?[\s:]+(?=\w{2})|^(?:run|trial|iter|iteration)\s?#?\d+\s*[:.)]\s*|"
    r"^(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\d{1,2}\s+",
    re.IGNORECASE,
)
_AMOUNT = words_of(
    "increas rais enlarg widen deepen bump reduc decreas lower shrink halv cut shorten extend lengthen doubl tripl"
)
"""Verbs that say of a quantity how it moves, and nothing else."""

_CHATTER = re.compile(
    r"^(?:(?:has|have|had|did|does|do|is|was|were|would|should|could|can|will|what|how|why|about|happens?|if|with|we|you|i|it|"
    r"there|ever|any(?:body|one)|some(?:body|one)|people|been|tried|try|trying|using|use|to|a|an|the|please|maybe)\s+)+",
    re.IGNORECASE,
)
"""Words with which questions begin."""

_PARAMETER = (
    "(?:probability|prob|[pnk]|alpha|rate|strength|value|factor|coefficient|decay|scale|std|rank|patience|momentum)"
)
_REWRITES = [
    (re.compile(pattern, re.IGNORECASE), by)
    for pattern, by in (
        # a reason before the step, and negations
        (r"^(?:bottleneck|problem|motivation|observation|evidence)\s*:[^.;]*[.;]\s+(?=[A-Z])", ""),
        (r"\b(?:don['\N{RIGHT SINGLE QUOTATION MARK}]?t|do not|never)\b", "no"),
        # code: modules, names of arguments, and what is assigned
        (r"\b(?:(?:torch|nn|mx|np|optim|utils|self|f)\.)+(?=[a-z])", ""),
        (r"^(?:\+\s*)?(?:[a-z]\w?|model|loss|logits)\s*=\s*(?=[a-z][\w.]*\()", ""),
        (r"\b((?:leaky_)?relu)\((?:[a-z]\w*(?:, ?)?)?([\d.]*)\)(?:\s?(?:\^|\*\*)\s?2\b|\.square\(\)|\.pow\(2\))",
         r"squared \1 \2"),
        (r"\)\s?(?:\^|\*\*)\s?2\b", ") squared"),
        (r"(?<=\w\()(?:self\.)?(?!gate)\w+\([a-z]\w?\)(?=\))", ""),
        (r"\bnorm\(q\).*?\bnorm\(k\)", "qk norm"),
        (r"(?<=\w\()(?:(?:[a-z]\w?|model|logits|targets)(?:,\s*|(?=\))))+", ""),
        (r"(?:(?<=\w\()|,\s*)(?:is_\w+=True|\w+=(?!True|False)[a-z][\w.]*)(?=[,)])", ""),
        (r"(?<=[(,\s])(\w+)=True(?=[,)])", r"\1"),
        (r"\b(?:separate|own) (?:weights|matrices|parameters)? ?for (?:the )?(?:input |token )?embeddings? and "
         r"(?:the )?(?:output|unembedding|(?:lm_?)?head)\b", "untied embeddings"),
        (r"\bno (?:weight )?tying\b", "untied embeddings"), (r"\bbut (?=\d)", ", "),
        # both betas of Adam at once
        (r"(?:\b|(?<=_))betas[ =:]*\(([\d.]+), ?([\d.]+)\)(?: ?(?:->|=>|→|to) ?\(([\d.]+), ?([\d.]+)\))?",
         lambda found: f"beta1 {found[1]}, beta2 {found[2]}" if not found[3] else
         f"beta1 {found[1]} -> {found[3]}, beta2 {found[2]} -> {found[4]}"),
        # numbers: 0,8 and 10 000 and 3 x 10^-4
        (r"(?<![\d.,])0,(?=\d)", "0."), (r"(?<=\d) (?=000\b)", ""),
        (r"(?<=\d) ?[x*\N{MULTIPLICATION SIGN}\N{MIDDLE DOT}] ?10(?:\^|\*\*)(?=[-+]?\d)", "e"),
        (r"(?<![\w.])(?<!\d )[x\N{MULTIPLICATION SIGN}] ?(?!0\b(?!\.))(\d+(?:\.\d+)?)(?![\w.])", r"\1x"),
        (r"(?<![\w.:])(\d+(?:\.\d+)?) ?: ?(\d+(?:\.\d+)?)(?![\w.:])", r"\1/\2"),  # a ratio is one value: 1:8
        # how much or how sure
        (r"\b(?:altogether|entirely|completely|simply|slightly|actually|even|ever|nonzero|all the way|a bit)\b", ""),
        # the number of what follows, in letters or joined by a hyphen: ten threads, 5-fold to 10-fold
        (rf"\b({'|'.join(list(_WORD_NUMBERS)[2:])})(?=[\s-][a-z])", lambda found: _WORD_NUMBERS[found[1].casefold()]),
        (r"\bsingle (?=(?:\w+ )?(?:head|layer|expert|epoch))", "1 "), (r"\b(?:two|2)[ -]thirds\b", "2/3"),
        (r"\b(?:three|3)[ -]quarters\b", "3/4"),
        (r"\b(?:one|a) (?=million|thousand)", "1 "), (r"(?<=\d) million\b", "M"), (r"(?<=\d) thousand\b", "k"),
        (r"(?<=\d)[ -]?(?:hours?|hrs?|h)\b", "h"), (r"(?<=\d)[ -]?minutes?\b", "min"), (r"(?<=\d)[ -]?seconds?\b", "s"),
        (r"(?<=\d)[ -]?(giga|mega|kilo)bytes?\b", lambda found: f"{found[1][0].upper()}B"),
        (r"\bbasis points\b", "bps"),
        (r"(?:(?<=\d)|(?<=\d[km]))-(?=(?:fold|step|layer|day|epoch|head|token|minute|hour|round|model|group)s?\b)",
         " "),
        (rf"(?<=\b(?:of|to|at|by|is) )({'|'.join(_WORD_NUMBERS)})\b", lambda found: _WORD_NUMBERS[found[1].casefold()]),
        (r"\bunit (norm|length|variance)\b", r"\1 1"), (r"\bnot (?:use|using)\b|\bwithout using\b", "without"),
        (r"\b(?:leav|tak|throw|strip|rip)(?:e|es|ing)? (?:out|away)\b|\b(?:do|doing|did) away with\b|"
         r"\bg[eo]t(?:ting)? rid of\b|\bfilter(?:ed|ing)? out\b", "remove"),
        (r"\b(?:tak|leav)(?:e|ing) (.+?) out\b", r"remove \1"),
        (r"\bas (?:high|low|much|many|large|small|far|long) as\b|\b(?:up|down) (?:at|by)\b", "to"),
        (r"\b(?:to |in )?([1-8])[ -]bits?\b", r"int\1"),
        (r"\b(warm|cool)(?:ing)?[ -](up|down)\b", r"\1\2"), (r"\bhalf[ -]precision\b", "fp16"),
        (rf"^([^\d,]+),\s+(?=(?:from\s+)?{_VALUE}\s*{_TO}\s*{_VALUE})", r"\1 "),
        # k=3 -> k=5
        (rf"\b([a-z_]\w*)\s?=\s?({_VALUE})\s*{_TO}\s*\1\s?=\s?({_VALUE})", r"\1 \2 -> \3"),
        # flash_attn=True, turn flash attention on
        (r"^([a-z][\w .]*?)\s*=\s*(?:true|on|yes|enabled)\b", r"enable \1"),
        (r"^([a-z][\w .]*?)\s*=\s*(?:false|off|no|none|disabled)\b(?: everywhere)?", r"disable \1"),
        (r"\b(?:turn|switch)(?:ed|ing)? (?:on (.+)|(.+?) on$)", r"enable \1\2"),
        (r"\b(?:turn|switch)(?:ed|ing)? (?:off (.+)|(.+?) off$)", r"disable \1\2"),
        (r"\b(?:twice|two times|2x) as wide\b", "width 2x"), (r"\b(?:twice|two times|2x) as deep\b", "depth 2x"),
        (r"\b(half|third|quarter|double|triple)-(?=[a-z])", r"\1"),  # third-party: no number
        (r"\bdrop[ -]?(path|connect|head|block|token)s?\b", r"drop\1"),
        # one value, said of the whole: random erasing with probability 0.25
        (rf"^([^\d]+?)\s+with\s+(?:an?\s+)?(?={_VALUE}|{_PARAMETER}\s?(?:of |=\s?)?{_VALUE})", r"\1 "),
        # a name before the step: deeper trees: max_depth 8
        (rf"^(?!baseline)([^:=\d]{{3,60}}):\s+(?!val_|result|loss|acc|score)(?=([a-z]\w*)\s?[= ]\s?{_VALUE})",
         lambda found: "" if name_key(found[2]) else f"{found[1]} "),
        # a second step; what else stands behind a semicolon is a remark
        (r";\s+(?=[a-z][^;]*?(?:->|=>|→|⇒)\s*\S)", ", "),
    )
]  # fmt: skip
"""Forms of words that name a step, written as the patterns above expect them."""

_PASSIVE = re.compile(r"(\w[\w ]{0,80}?) (?:been|was|were|be|got|gets|is|are) (\w+)(?=\s|$)", re.IGNORECASE)
_COMMENT = re.compile(
    r"\s+[\N{EM DASH}\N{EN DASH}]+\s+|\s+-{1,2}\s+|;|\(|\?|\n|!|\.\s|"
    r":\s+(?=[A-Z]\w*\s+(?![-=]>|→|⇒)|val_|result|loss\b)"
)
_CONTEXT = re.compile(
    r"\s(?:after|because|since|when|while|before|via|vs\.?|versus|but|so|which|that|on top of|below|above|"
    r"in the (?:mlp|model)|help|helps|helped|hurts?|no (?:improvement|gain|change|difference|better)|identical to|"
    r"(?:work\s+)?(?:better|worse) than)\b.*",
    re.IGNORECASE,
)
PARTS = re.compile(r",\s|,(?=[A-Za-z_]+\s*=)|\s\+\s|\s&\s|\+(?=[a-z])|\s(?:and|plus|with)\s(?!the\s)", re.IGNORECASE)
_RESULT = re.compile(r"\s[\N{EM DASH}\N{EN DASH}]+\s|;\s|\n|\?|!|\.\s")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*\s*=\s*[\w.-]+")
_JOINED = re.compile(r"\s\+\s|\s&\s|\+(?=[a-z])|,\s|\sand\s|\splus\s", re.IGNORECASE)


class NamedStep(NamedTuple):
    """A step that a text names. `value` is the new value as written; empty where none is named, as `old` is."""

    axis: str
    direction: AxisDirection
    value: str = ""
    old: str = ""


NO_AXIS, SEED = "other", "seed"
MAX_CHARACTERS = 200
_CONSTANT = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)+|[A-Z]{3,}[A-Z0-9]*")  # as code names it


def read_change(description: str) -> NamedStep:
    """The one change that a description names. One that names several, or none, has the axis `other`."""
    clause = first_clause(description)
    steps = list(list_steps(description))
    valued = [step for step in steps if step.value]
    parts = [part for part in _JOINED.split(clause) if part.strip()]
    if re.search(r"\bseeds?\b", clause, re.IGNORECASE) and len(valued) <= 1:
        value = valued[0] if valued else NamedStep(SEED, AxisDirection.CHANGE)
        return value._replace(axis=SEED, direction=AxisDirection.CHANGE)
    is_first = bool(valued) and bool(steps) and steps[0] is valued[0]
    several = (
        len(valued) > 1 or len(_ASSIGNED.findall(clause)) > 1 or (bool(valued) and len(parts) > 1 and not is_first)
    )
    if several or (len(parts) > 1 and (not valued or " + " in clause)):
        return NamedStep(NO_AXIS, AxisDirection.CHANGE)
    is_amount = bool(_AMOUNT.intersection(list_words(clause)[:1])) and len(steps) == 1
    chosen = (
        valued[0] if valued else next((step for step in steps if is_amount or _CONSTANT.fullmatch(step.axis)), None)
    )
    is_told = clause.casefold().startswith("baseline") or (
        chosen and (len(chosen.axis.split()) > MAX_WORDS or re.search(rf":\s|{_ON}", chosen.axis))
    )
    if chosen is None or is_told:
        return NamedStep(NO_AXIS, AxisDirection.CHANGE)
    return chosen._replace(axis=chosen.axis[:MAX_CHARACTERS], value=chosen.value[:MAX_CHARACTERS])


def list_steps(text: str) -> Iterator[NamedStep]:
    """The steps that a text names, those of its first clause only: what follows tells what came of it."""
    clause = first_clause(text)
    steps = [step for part in PARTS.split(clause) if (step := _read_part(part.strip(" .,:"))) is not None]
    whole = _read_part(clause.strip(" .,:")) if len(steps) > 1 and not any(step.value for step in steps) else None
    yield from [whole] if whole is not None else steps


@lru_cache(maxsize=KEPT)
def normalise(text: str) -> str:
    """A text up to its first comment, written as patterns expect it."""
    plain = _RESULT.split(_rewrite(text[:MAX_TEXT]))[0]
    return _COUNTS.sub(lambda found: _WORD_NUMBERS[found[0].casefold()], plain)


_LETTERS_OF = str.maketrans({"α": "alpha", "β": "beta", "γ": "gamma", "ε": "eps", "λ": "lambda", "τ": "tau", "η": "lr",
                             "₁": "1", "₂": "2", "−": "-"})  # fmt: skip


@lru_cache(maxsize=KEPT)
def _rewrite(text: str) -> str:
    text = text.translate(_LETTERS_OF)
    for pattern, by in _REWRITES:
        text = pattern.sub(by, text)
    said = _PASSIVE.match(text)
    return f"{said[2]} {said[1]}{text[said.end() :]}" if said and find_turn(said[2].casefold()) else text


@lru_cache(maxsize=KEPT)
def first_clause(text: str) -> str:
    """A text up to its first comment, without labels and what questions begin with, as patterns expect it."""
    plain = text[:MAX_TEXT].strip().rstrip(" .?!")
    text = _rewrite(_ASIDE.sub(r"\1\2", _LABEL.sub("", _CHATTER.sub("", plain))))
    clause = next((part.strip() for part in _COMMENT.split(text) if part and part.strip()), "")
    for words, number in _FRACTIONS.items():
        clause = re.sub(rf"\b{words}\b", number, clause, flags=re.IGNORECASE)
    return _CONTEXT.sub("", _CHATTER.sub("", clause)).strip()


def _read_part(part: str) -> NamedStep | None:
    for pattern in (_TWO, _TWO_FIRST, _TWO_WORDS, _FROM_TO, _CAPITALS):
        if found := pattern.match(part):
            axis, turn, _ = _read_axis(found["axis"])
            direction = compare_values(found["old"], found["new"]) or (turn if pattern is not _TWO else None)
            if axis:
                return NamedStep(axis, direction or AxisDirection.CHANGE, found["new"], found["old"])
    for pattern in _SWAP:
        if found := pattern.fullmatch(part):
            old, new = found["old"].strip(), found["new"].strip()
            if not re.search(r"\d", new):
                return NamedStep(f"{old} {new}", AxisDirection.CHANGE, new, old)
    for pattern in (_ONE, _BARE, _VALUE_FIRST, _LETTERS):
        if found := pattern.match(part):
            axis, turn, _ = _read_axis(found["axis"])
            if pattern is _BARE and _COUNTING.search(axis):
                continue
            if axis and len(axis.split()) <= MAX_WORDS:
                target = re.match(r"\s+(?:to|on|for|of) (?:the )?(\w+)$", part[found.end() :])
                axis = f"{target[1]} {axis}" if target and pattern is _BARE else axis
                return NamedStep(axis, turn or AxisDirection.CHANGE, found["new"])
    axis, turn, factor = _read_axis(part)
    return NamedStep(axis, turn or AxisDirection.CHANGE, factor) if axis else None


@lru_cache(maxsize=20_000)
def find_turn(word: str) -> str:
    """`up`, `down` or `neutral` for a verb in any form, and what counts as one; empty for other words."""
    forms = (word, *list_words(word)[:1]) if word.isalpha() else (word,)
    return next((name for name, known in _TURNS.items() if not known.isdisjoint(forms)), "")


_TURNS = {"up": _UP, "down": _DOWN, "neutral": _NEUTRAL}


def _read_axis(text: str) -> tuple[str, AxisDirection | None, str]:
    """The axis without the verb and what surrounds it, the direction of the verb, and the factor that it names."""
    turn: AxisDirection | None = None
    words, factor, dimension = text.strip(" :=,").split(), "", ""
    while words:
        word = words[0].casefold().strip(",.:")
        kind = find_turn(word)
        if kind in ("up", "down"):
            turn = turn or AxisDirection(kind)
            factor = factor or _FACTORS.get(word, "")
            dimension = dimension or _DIMENSIONS.get(word, "")
        elif kind != "neutral":
            break
        words = words[1:]
    while words and words[-1].casefold() in _NEUTRAL | _AFTERWARDS:
        last = words.pop().casefold()
        if turn is None:
            turn = next((way for way in AxisDirection if find_turn(last) == way), None)
        factor, dimension = factor or _FACTORS.get(last, ""), dimension or _DIMENSIONS.get(last, "")
    axis = " ".join(words)
    return dimension if dimension and not name_key(axis) else axis, turn, factor


def compare_values(old: str, new: str) -> AxisDirection | None:
    """Where a value moved; None where the values are no numbers, or the same."""
    before, after = read_value(old), read_value(new)
    if before is None or after is None or before == after:
        return None
    return AxisDirection.UP if after > before else AxisDirection.DOWN


@lru_cache(maxsize=4_096)
def read_value(text: str) -> float | None:
    """The number that a value is, written with a power, a fraction, a percentage or a thousand's letter."""
    plain = _WORD_NUMBERS.get(text.strip().casefold(), text).replace("_", "").replace(",", "").strip()
    found = re.fullmatch(
        r"(?P<base>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)(?:(?:\^|\*\*)(?P<power>[-+]?\d+))?"
        r"(?:/(?P<below>\d+(?:\.\d+)?))?\s?"
        r"(?P<unit>%|percent|[a-z\N{MICRO SIGN}]{0,4})", plain, re.IGNORECASE,
    )  # fmt: skip
    if found is None:
        return None
    number = float(found["base"])
    if found["power"]:
        number = number ** min(64.0, float(found["power"])) if number or not found["power"].startswith("-") else 0.0
    if found["below"] and float(found["below"]):
        number /= float(found["below"])
    unit = found["unit"].casefold()
    return number * (_UNITS.get(unit) or _UNITS.get(re.sub("i?b$", "", unit), 1.0))


_UNITS = {
    "%": 0.01, "percent": 0.01, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "ms": 1e-3, "us": 1e-6,
    "min": 60.0, "h": 3600.0,
}  # fmt: skip
"""Factors of units; another one says of what the number is, and counts as one."""
