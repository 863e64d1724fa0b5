"""Answers without a language model: sentences put together at random, the same for the same seed."""

import random
import re
from collections.abc import Iterator

SUBJECTS = (
    "the tide|a slow boat|the harbour|every lantern on the pier|an old chart|the keeper of the log"
)
VERBS = "carries|remembers|waits for|follows|hands on|counts|writes down"
OBJECTS = (
    "what the last wave left|each message in its order|a line that nobody has read yet|the water's edge"
    "|three bells and a light|the name of the wind|whatever comes after the pause"
)
TURNS = "Meanwhile|Still|By morning|Without a word|Once in a while|At the turn of the tide"
ENDS = (
    "and nothing is lost on the way|so it begins again from there|as if it had never been cut off"
)
CLOSINGS = (
    "That is all there is to say about {topic}. 🌊",
    "Ask the sea about {topic} tomorrow; it answers the same — in order. ⚓",
    "And that, in short, is how {topic} comes ashore: one word after the other. 🐚",
)


def answer(prompt: str, seed: str, sentences: int = 14) -> list[str]:
    """The words of an answer, with the blanks behind them: joined, they are the text."""
    chosen = random.Random(f"{seed}/{prompt}")
    topic = _topic(prompt)
    text = f"You ask about {topic}. "
    for number, sentence in enumerate(_sentences(chosen, topic, sentences), 1):
        text += sentence + ("\n\n" if number % 5 == 0 else " ")
    text += chosen.choice(CLOSINGS).format(topic=topic)
    return re.findall(r"\S+\s*", text)


def _sentences(chosen: random.Random, topic: str, count: int) -> Iterator[str]:
    def one_of(words: str) -> str:
        return chosen.choice(words.split("|"))

    for _ in range(count):
        subject = f"the thought of {topic}" if chosen.random() < 0.2 else one_of(SUBJECTS)
        sentence = f"{subject} {one_of(VERBS)} {one_of(OBJECTS)}"
        if chosen.random() < 0.5:
            sentence = f"{one_of(TURNS)} {sentence}"
        if chosen.random() < 0.4:
            sentence += f", {one_of(ENDS)}"
        yield sentence[0].upper() + sentence[1:] + "."


def _topic(prompt: str) -> str:
    """The longest word of what was asked, the last of several, in quotes."""
    words = re.findall(r"[\w'’-]{4,}", prompt)
    return f"“{max(reversed(words), key=len, default='nothing')}”"
