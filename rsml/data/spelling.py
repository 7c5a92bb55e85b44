"""How a label is spelled: split into words, and matched to the spelling a known data set uses."""

import re
from collections.abc import Sequence
from functools import lru_cache

# The words of all labels in the catalog. They tell where "storagetanks" or "mobilehomepark" is to be cut; a label made
# of other words is left whole.
_LABEL_WORDS = """
    agricultural agriculture airfield airplane airport area ball bare baseball basketball beach boat bridge
    building buildings car cars center centre chaparral church circular cloud clutter commercial course court
    dense desert diamond dock farmland field football forest freeway golf grass grassland ground harbor harbour
    home homes ice impervious industrial intersection island lake land lot meadow medium mobile mountain
    overpass palace park parking pavement playground pond port power railway rectangular residential resort
    river road roundabout runway sand school sea ship snowberg soil sparse square stadium station storage
    surface tank tanks tennis terrace thermal track tree trees vegetation viaduct water wetland
"""
_WORDS = frozenset(_LABEL_WORDS.split())
_LONGEST = max(map(len, _WORDS))

# Spellings that no rule about hyphens, case or plural finds. Each pair is read in both directions.
_SYNONYMS = (
    ("soil", "bare soil"),
    ("tanks", "storage tanks"),
    ("harbor", "harbour"),
    ("center", "centre"),
    ("impervious", "impervious surface"),
)


@lru_cache(maxsize=4096)
def _cut(word: str) -> tuple[str, ...]:
    """Cuts a word run together into known words, the fewest possible; a word that cannot be cut stays whole."""
    best: list[tuple[str, ...] | None] = [()] + [None] * len(word)
    for end in range(1, len(word) + 1):
        for start in range(max(0, end - _LONGEST), end):
            head = best[start]
            if (
                head is not None
                and word[start:end] in _WORDS
                and ((there := best[end]) is None or len(head) + 1 < len(there))
            ):
                best[end] = (*head, word[start:end])
    return best[-1] or (word,)


def words_of(label: str) -> list[str]:
    """Splits a label into lower-case words, however they are joined.

    `bare-soil`, `BareSoil`, `bare_soil`, `bare soil` and `baresoil` all give `["bare", "soil"]`.
    """
    spaced = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
    return [part for word in re.split(r"[\W_]+", spaced.lower()) if word for part in _cut(word)]


def spellings_of(word: str) -> list[str]:
    """A word, its singular and plural, and the other English spelling of it, best first; not all of them are words.

    >>> spellings_of("harbours")[:3]
    ['harbours', 'harbour', 'harbourss']
    """
    endings = (("s", ""), ("es", ""), ("ies", "y"))
    singular = [word[: -len(ending)] + instead for ending, instead in endings if word.endswith(ending)]
    plural = [word + "s", word + "es", word[:-1] + "ies"]
    pairs = (("our", "or"), ("or", "our"), ("re", "er"), ("er", "re"), ("grey", "gray"), ("gray", "grey"))
    other = [word.replace(one, instead) for one, instead in pairs]
    return [form for form in dict.fromkeys([word, *singular, *plural, *other]) if len(form) > 1]


def label_key(label: str) -> str:
    """Returns what is left of a label without case, hyphens, spaces and plural: two spellings of one label share it."""
    return "".join(_singular(word) for word in words_of(label))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us")) else word


_SYNONYM_KEYS: dict[str, set[str]] = {}
for _one, _other in _SYNONYMS:
    _SYNONYM_KEYS.setdefault(label_key(_one), set()).add(label_key(_other))
    _SYNONYM_KEYS.setdefault(label_key(_other), set()).add(label_key(_one))


def match_label(label: str, known: Sequence[str]) -> str | None:
    """Finds the one known label that `label` spells, or None.

    The exact spelling comes first, then the same words joined otherwise or in the plural, then a synonym such as
    `soil` for `bare-soil`. Two candidates at one step give None: nothing is guessed.
    """
    if label in known:
        return label
    key = label_key(label)
    for keys in ({key}, _SYNONYM_KEYS.get(key, set())):
        hits = [name for name in known if label_key(name) in keys]
        if hits:
            return hits[0] if len(hits) == 1 else None
    return None


def match_labels(labels: Sequence[str], known: Sequence[str]) -> dict[str, str] | None:
    """Maps each label to a known one, when the two lists are the same labels in some spelling and order; else None."""
    if len(labels) != len(known):
        return None
    matched = {label: hit for label in labels if (hit := match_label(label, known)) is not None}
    return matched if len(matched) == len(labels) and set(matched.values()) == set(known) else None
