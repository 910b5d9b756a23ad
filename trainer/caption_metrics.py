"""How near comments come to those of people: BLEU-4, ROUGE-L, CIDEr-D and exact match, over words.

Each video has one comment to judge and one or more references; words are compared as they are given.
"""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from torchmetrics.functional.text import bleu_score

Words = Sequence[str]

ROUGE_BETA = 1.2
"""How much more recall counts than precision: as caption benchmarks have it."""
CIDER_ORDERS = 4
CIDER_SIGMA = 6.0
CIDER_SCALE = 10.0


def caption_metrics(comments: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, float]:
    """All four by name, each for a whole set: BLEU-4, ROUGE-L and exact match in [0, 1], CIDEr-D from 0 to 10."""
    texts = [" ".join(words) for words in comments]
    wanted = [[" ".join(words) for words in one] for one in references]
    return {
        "exact_match": sum(text in one for text, one in zip(texts, wanted, strict=True)) / len(texts),
        "bleu_4": float(bleu_score(texts, wanted)),
        "rouge_l": sum(map(rouge_l, comments, references)) / len(comments),
        "cider_d": cider_d(comments, references),
    }


def rouge_l(comment: Words, references: Sequence[Words]) -> float:
    """By the longest common subsequence, best precision and best recall over the references (Lin 2004)."""
    if not comment:
        return 0.0
    common = [_longest_common(comment, reference) for reference in references]
    precision = max(common) / len(comment)
    recall = max(length / max(1, len(reference)) for length, reference in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def cider_d(comments: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Consensus with the references: Vedantam et al. 2015, arXiv 1411.5726, section 4.

    Cosine similarity of counts of n-grams, weighted by how few videos they are said of, clipped so that no word gains
    by being repeated, and lowered where lengths differ; the mean over n from 1 to 4, references and videos, times 10.
    """
    documents: Counter[tuple[str, ...]] = Counter()
    for one in references:
        documents.update(
            {gram for reference in one for order in range(1, CIDER_ORDERS + 1) for gram in _grams(reference, order)}
        )
    total = 0.0
    for comment, one in zip(comments, references, strict=True):
        for reference in one:
            gap = math.exp(-((len(comment) - len(reference)) ** 2) / (2 * CIDER_SIGMA**2))
            for order in range(1, CIDER_ORDERS + 1):
                ours, theirs = (_weighted(words, order, documents, len(comments)) for words in (comment, reference))
                shared = sum(min(ours[gram], theirs[gram]) * theirs[gram] for gram in ours if gram in theirs)
                norms = _norm(ours) * _norm(theirs)
                total += gap * (shared / norms if norms else 0.0) / len(one)
    return CIDER_SCALE * total / CIDER_ORDERS / len(comments)


def _grams(words: Words, order: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


def _weighted(
    words: Words, order: int, documents: Counter[tuple[str, ...]], num_videos: int
) -> dict[tuple[str, ...], float]:
    """Counts of n-grams times log of how rare they are among videos."""
    counts = Counter(_grams(words, order))
    return {gram: count * math.log(num_videos / max(1, documents[gram])) for gram, count in counts.items()}


def _norm(weights: dict[tuple[str, ...], float]) -> float:
    return math.sqrt(sum(weight**2 for weight in weights.values()))


def _longest_common(first: Words, second: Words) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for word in first:
        row = [0]
        for (before, above), other in zip(pairwise(lengths), second, strict=True):
            row.append(before + 1 if word == other else max(row[-1], above))
        lengths = row
    return lengths[-1]
