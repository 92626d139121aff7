"""Token codes: words of ±1 that agree in few places, by construction and not by chance.

A word of the binary Golay code [24, 12] (Golay 1949) differs from every other in at least 8 places. Words that come of
fewer information bits have leading zeros, which are left out: for up to 2**b tokens a code has 12 + b channels and the
same distance. So a code times itself is its length n, times another at most n - 16, whatever the vocabulary.
"""

import numpy as np
import numpy.typing as npt

GENERATOR = 0b101011100011  # x^11 + x^9 + x^7 + x^6 + x^5 + x + 1
MOST_TOKENS = 4096
LEAST_GAP = 16.0  # a code times itself, less a code times another


def code_length(tokens: int) -> int:
    """Channels of a code for so many tokens."""
    return 12 + (tokens - 1).bit_length()


def token_codes(tokens: int, seed: int) -> npt.NDArray[np.float64]:
    """Codes ``[tokens, code_length(tokens)]`` of ±1; the seed says which word is whose."""
    length = code_length(tokens)
    words = [_word(message, length) for message in range(1 << (length - 12))]
    draw = np.random.default_rng(seed)
    flips = draw.choice((-1.0, 1.0), length)  # the same of all words: keeps the distances
    return np.asarray(draw.permutation(np.array(words))[:tokens] * flips)


def _word(message: int, length: int) -> list[float]:
    """The message's polynomial times the generator over GF(2), and a bit that makes the sum even."""
    product = 0
    for shift in range(message.bit_length()):
        if message >> shift & 1:
            product ^= GENERATOR << shift
    bits = [product >> place & 1 for place in range(length - 1)]
    return [1.0 - 2.0 * bit for bit in (*bits, sum(bits) % 2)]
