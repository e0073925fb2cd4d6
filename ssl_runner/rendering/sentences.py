"""English-like sentences of one or two clauses from a small grammar, with the exact causes of each.

Every clause draws its own topic, tense, polarity, number and voice; the causes of a sentence are its MAIN clause's.
Syntax alone tells which clause that is: a conjunction opens the other one, which comes first or last. So neither words
counted, nor length, nor position tell them. What binds distant words, for a model to learn from: a place phrase at the
start is of the main clause's topic, and a tag question at the end takes up its tense, number and polarity.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

LEXICON = {  # by topic: persons, things, regular verbs, places, adjectives
    name: tuple(part.split() for part in parts)
    for name, *parts in (
        ("farm", "farmer shepherd miller drover", "cow plough fence barrel",
         "herd mend till", "barn meadow", "muddy sturdy"),
        ("sea", "sailor diver captain pilot", "anchor net sail oyster",
         "hoist steer haul", "harbour bay", "salty stormy"),
        ("kitchen", "cook baker waiter guest", "cake onion kettle spoon",
         "stir roast season", "cellar pantry", "hungry greasy"),
        ("court", "lawyer judge witness clerk", "verdict contract letter charge",
         "dispute record sign", "court office", "stern honest"),
        ("school", "teacher pupil tutor scholar", "essay lesson book riddle",
         "explain copy solve", "school library", "clever patient"),
        ("music", "singer drummer composer dancer", "song violin rhythm chord",
         "play hum rehearse", "theatre studio", "gentle famous"),
        ("war", "soldier scout general guard", "fortress cannon bridge banner",
         "attack defend capture", "camp trench", "brave wounded"),
        ("garden", "gardener botanist florist visitor", "rose hedge seed pond",
         "water prune plant", "garden orchard", "fragrant leafy"),
    )
}  # fmt: skip
SHARED = ["watch", "want", "praise", "carry", "admire", "follow"]  # verbs of every topic
CONJUNCTIONS = ["while", "because", "although", "when"]  # each opens the clause that is not the main one
TENSES = ("past", "present", "future")
FACTORS = ("topic", "tense", "negated", "plural", "passive")
MOODS = ("active", "negated active", "passive", "negated passive")  # 2 * passive + negated
TAGS = ("noun", "verb", "auxiliary", "adjective", "determiner", "preposition", "not", "conjunction", "pronoun", "mark")
OWN_VERB, ADJECTIVE, TWO = 0.8, 0.4, 0.8  # probabilities: a verb of the topic, an adjective, a second clause

Word = tuple[str, str]  # and its part of speech


class Clause(NamedTuple):
    topic: int
    tense: int
    negated: int
    plural: int
    passive: int


def draw_clause(rng: random.Random) -> Clause:
    return Clause(*(rng.randrange(n) for n in (len(LEXICON), len(TENSES), 2, 2, 2)))


def plural_of(noun: str) -> str:
    """Also the third person of a verb."""
    if noun.endswith(("s", "sh", "ch")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if noun[-1] == "y" and noun[-2] not in "aeo" else f"{noun}s"


def past_of(verb: str) -> str:
    """Also the participle: all verbs are regular."""
    if verb in ("hum", "stir"):
        return f"{verb}{verb[-1]}ed"
    if verb[-1] == "y" and verb[-2] not in "aeo":
        return f"{verb[:-1]}ied"
    return f"{verb}d" if verb[-1] == "e" else f"{verb}ed"


def auxiliary(clause: Clause) -> str:
    """The auxiliary of a negation or question: will, be in the passive, else do."""
    if TENSES[clause.tense] == "future":
        return "will"
    if clause.passive:
        return (("was", "were"), ("is", "are"))[clause.tense][clause.plural]
    return "did" if TENSES[clause.tense] == "past" else ("does", "do")[clause.plural]


def noun_phrase(rng: random.Random, topic: int, nouns: Sequence[str], plural: int) -> list[Word]:
    adjectives = list(LEXICON.values())[topic][4]
    noun = rng.choice(nouns)
    described: list[Word] = [(rng.choice(adjectives), "adjective")] if rng.random() < ADJECTIVE else []
    return [("the", "determiner"), *described, (plural_of(noun) if plural else noun, "noun")]


def words_of(clause: Clause, rng: random.Random) -> list[Word]:
    """Subject, auxiliaries, verb and object; a thing is the subject of the passive, a person otherwise."""
    persons, things, verbs, *_ = list(LEXICON.values())[clause.topic]
    verb = rng.choice(verbs if rng.random() < OWN_VERB else SHARED)
    first, second = (things, persons) if clause.passive else (persons, things)
    subject = noun_phrase(rng, clause.topic, first, clause.plural)
    other = noun_phrase(rng, clause.topic, second, rng.randrange(2))
    negation: list[Word] = [("not", "not")] * clause.negated
    future = TENSES[clause.tense] == "future"
    if clause.passive:
        be: list[Word] = [("be", "auxiliary")] * future
        helped = [(auxiliary(clause), "auxiliary"), *negation, *be]
        return [*subject, *helped, (past_of(verb), "verb"), ("by", "preposition"), *other]
    if future or clause.negated:
        return [*subject, (auxiliary(clause), "auxiliary"), *negation, (verb, "verb"), *other]
    plain = past_of(verb) if TENSES[clause.tense] == "past" else verb if clause.plural else plural_of(verb)
    return [*subject, (plain, "verb"), *other]


def tag_question(clause: Clause) -> list[Word]:
    """Of the other polarity than the clause."""
    pronoun = "they" if clause.plural else "it" if clause.passive else "he"
    negation: list[Word] = [] if clause.negated else [("not", "not")]
    return [(",", "mark"), (auxiliary(clause), "auxiliary"), (pronoun, "pronoun"), *negation, ("?", "mark")]


def draw_sentence(rng: random.Random, framed: float) -> tuple[list[Word], Clause]:
    """A sentence and the causes of its main clause. framed: probability of a place phrase, and of a tag question."""
    main = draw_clause(rng)
    words, comma = words_of(main, rng), (",", "mark")
    if rng.random() < TWO:
        other = [(rng.choice(CONJUNCTIONS), "conjunction"), *words_of(draw_clause(rng), rng)]
        words = [*other, comma, *words] if rng.random() < 0.5 else [*words, *other]
    if rng.random() < framed:
        place = rng.choice(list(LEXICON.values())[main.topic][3])
        words = [("in", "preposition"), ("the", "determiner"), (place, "noun"), comma, *words]
    return [*words, *(tag_question(main) if rng.random() < framed else [(".", "mark")])], main
