"""What the metrics of the downstream tasks must give, by the libraries that define them.

    tests/oracle/setup
    target/oracle/bin/pip install --no-deps -r tests/oracle/metrics-requirements.txt
    target/oracle/bin/python tests/oracle/metrics.py [FOLDER]

Writes classification, overlap, grid, grounding, detection, retrieval and estimate.json into FOLDER
(tests/fixtures/metrics), which tests/metrics.rs reads. Every input is drawn from a fixed seed and rounded, so that
the files stay small and a rerun with the same versions writes the same bytes. A figure that has no value is null.

Peers: scikit-learn (AUC, average precision, F1, accuracy, MCC, recall, Jaccard, cosines, coverage error, top-k
accuracy), scipy (Gaussian filter, ranks, hypergeometric mean, bootstrap), pycocotools (average precision of
boxes), torchvision (IoU of boxes, suppression), torch (interpolation), numpy (moments, median).
"""

import contextlib
import fractions
import io
import json
import pathlib
import sys

import numpy as np
import scipy.ndimage
import scipy.stats
import sklearn.metrics as sk
import torch
import torchvision.ops
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

OUT = pathlib.Path(__file__).resolve().parents[1] / "fixtures" / "metrics"
PUBLISHED = [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]
MEAN_IOU = [0.1, 0.2, 0.3, 0.4, 0.5]


def bits(mask):
    return "".join("01"[int(one)] for one in np.ravel(mask))


def numbers(array):
    return np.ravel(array).astype(float).tolist()


# Classification


def binary(scores, positive, threshold):
    """One class: every figure by scikit-learn, the best thresholds by trying all of them."""
    called = scores >= threshold
    one_class = positive.all() or not positive.any()
    candidates = np.unique(scores)

    def f1(threshold):  # exact, so that equally good thresholds are equal
        called = scores >= threshold
        both = int((called & positive).sum())
        return fractions.Fraction(2 * both, int(called.sum() + positive.sum()))

    best_f1 = candidates[np.argmax([f1(one) for one in candidates])] if positive.any() else None
    return dict(
        scores=numbers(scores),
        positive=bits(positive),
        threshold=threshold,
        auc=None if one_class else sk.roc_auc_score(positive, scores),
        f1=sk.f1_score(positive, called) if positive.any() else None,
        accuracy=sk.accuracy_score(positive, called),
        mcc=None if one_class else sk.matthews_corrcoef(positive, called),
        best_f1_threshold=best_f1,
        best_f1=None if best_f1 is None else sk.f1_score(positive, scores >= best_f1),
    )


def classification(rng):
    cases = []
    for films, decimals, rate in [(37, 4, 0.3), (101, 1, 0.5), (7, 4, 0.5), (53, 0, 0.2), (211, 2, 0.03), (2, 4, 0.5)]:
        positive = rng.random(films) < rate
        positive[:2] = [True, False]
        scores = np.round(rng.normal(size=films) + positive, decimals) + 0.0
        cases.append(binary(scores, positive, float(np.round(np.median(scores), 2))))
    scores = np.round(rng.normal(size=11), 1)
    cases.append(binary(scores, np.ones(11, bool), 0.0))
    cases.append(binary(scores, np.zeros(11, bool), 0.0))
    cases.append(binary(np.full(9, 0.5), np.arange(9) < 4, 0.5))  # all tied, all called positive
    cases.append(binary(np.full(9, 0.5), np.arange(9) < 4, 0.6))  # all tied, none called positive
    cases.append(binary(-np.arange(9.0), np.arange(9) < 4, -3.0))  # without a mistake
    cases.append(binary(np.arange(9.0), np.arange(9) < 4, 4.0))  # all mistakes
    cases.append(binary(np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, False, True]), 0.7))  # two best F1

    labels = rng.random((29, 5)) < 0.4
    labels[:2] = [[True] * 5, [False] * 5]
    scores = np.round(rng.normal(size=(29, 5)) + labels, 1)
    many = dict(
        classes=5,
        scores=numbers(scores),
        positive=bits(labels),
        macro_auc=sk.roc_auc_score(labels, scores, average="macro"),
        macro_f1=sk.f1_score(labels, scores >= 0.5, average="macro"),
    )
    scores = np.round(rng.normal(size=(43, 3)), 0) + 0.0
    labels = rng.integers(3, size=43)
    top1 = dict(classes=3, scores=numbers(scores), labels=labels.tolist(), accuracy=sk.accuracy_score(labels, scores.argmax(1)))
    return dict(binary=cases, macro=many, top1=top1)


# Masks


def overlap(rng):
    """Images of which some are empty, by both conventions; published: batches of 4."""
    images = []
    for at in range(23):
        truth = rng.random(35) < [0, 0.1, 0.5, 1][at % 4]
        predicted = rng.random(35) < [0, 0.05, 0.6, 1, 0.3][at % 5]
        images.append(dict(
            predicted=bits(predicted),
            truth=bits(truth),
            dice=sk.f1_score(truth, predicted, zero_division=1.0),
            iou=sk.jaccard_score(truth, predicted, zero_division=1.0),
        ))
    assert {(("1" in one["truth"]), ("1" in one["predicted"])) for one in images} == {(a, b) for a in (0, 1) for b in (0, 1)}
    result = dict(images=images, batch=4)
    for measure in ["dice", "iou"]:
        values = np.array([one[measure] for one in images])
        positive = np.array(["1" in one["truth"] for one in images])
        result[measure] = dict(
            mean=values.mean(),
            positives=values[positive].mean(),
            published=np.mean([values[at : at + 4].mean() for at in range(0, len(values), 4)]),
        )
    return result


def grid(rng):
    planes = []
    for rows, columns, to in [(8, 8, (17, 19)), (3, 5, (11, 5)), (1, 1, (3, 2)), (7, 4, (5, 9)), (2, 13, (4, 6))]:
        plane = np.round(rng.normal(size=(rows, columns)), 3)
        tensor = torch.tensor(plane)[None, None]
        planes.append(dict(
            size=[rows, columns],
            values=numbers(plane),
            sigma=(sigma := 1.5 if rows != 7 else 0.7),
            smoothed=numbers(scipy.ndimage.gaussian_filter(plane, sigma)),
            to=list(to),
            bilinear=numbers(torch.nn.functional.interpolate(tensor, size=to, mode="bilinear", align_corners=False)),
        ))
    nearest = []
    for cells, pixels in [(7, 224), (8, 256), (5, 13), (13, 5), (6, 10), (14, 14), (3, 7), (49, 50), (29, 100), (1, 3), (3, 123)]:
        row = torch.arange(cells, dtype=torch.float64)[None, None, None]
        taken = torch.nn.functional.interpolate(row, size=(1, pixels), mode="nearest")
        nearest.append(dict(cells=cells, pixels=pixels, taken=taken.ravel().int().tolist()))
    return dict(planes=planes, nearest=nearest)


def grounding(rng):
    cases = []
    for at, decimals in enumerate([3, 1, 0, 3, 2]):
        heat = np.round(rng.normal(size=63), decimals) + 0.0
        truth = rng.random(63) < 0.3
        counted = rng.random(63) < 0.8 if at % 2 else np.ones(63, bool)
        heat[truth] += 1.0
        inner, inside = heat[counted], truth[counted]
        normalised = (inner - inner.min()) / (inner.max() - inner.min())
        threshold = 0.5
        cases.append(dict(
            heat=numbers(heat),
            truth=bits(truth),
            counted=bits(counted),
            pointing=bool(inside[inner.argmax()]),
            cnr=(inner[inside].mean() - inner[~inside].mean()) / np.sqrt(inner[inside].var() + inner[~inside].var()),
            threshold=threshold,
            iou=sk.jaccard_score(inside, inner > threshold),
            dice=sk.f1_score(inside, inner > threshold),
            recall=sk.recall_score(inside, inner > threshold),
            mean_iou=np.mean([sk.jaccard_score(inside, normalised > one) for one in MEAN_IOU]),
        ))
    assert {case["pointing"] for case in cases} == {True, False}
    return cases


# Boxes: left, top, right, bottom


def coco(images, thresholds=None):
    """Average precision at each threshold, the mean over classes, and COCO's own first two figures."""
    truths = [dict(image_id=at, category_id=box[4] + 1, bbox=[box[0], box[1], box[2] - box[0], box[3] - box[1]],
                   area=(box[2] - box[0]) * (box[3] - box[1]), iscrowd=0)
              for at, image in enumerate(images) for box in image["truths"]]
    for number, one in enumerate(truths, 1):
        one["id"] = number
    found = [dict(image_id=at, category_id=box[5] + 1, score=box[4], bbox=[box[0], box[1], box[2] - box[0], box[3] - box[1]])
             for at, image in enumerate(images) for box in image["found"]]
    classes = {one["category_id"] for one in truths + found}
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = dict(images=[dict(id=at) for at in range(len(images))], annotations=truths,
                            categories=[dict(id=one) for one in sorted(classes)])
        data.createIndex()
        evaluation = COCOeval(data, data.loadRes(found), "bbox")
        if thresholds:
            evaluation.params.iouThrs = np.array(thresholds)
        evaluation.evaluate()
        evaluation.accumulate()
        if not thresholds:
            evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes
    valid = (precision > -1).all(axis=(0, 1))
    result = precision[:, :, valid].mean(axis=(1, 2))
    if not thresholds:
        assert abs(evaluation.stats[0] - result.mean()) < 1e-12 and abs(evaluation.stats[1] - result[0]) < 1e-12
    return numbers(result)


def random_boxes(rng, count, size=60):
    corner = rng.integers(0, size, size=(count, 2))
    return np.concatenate([corner, corner + rng.integers(1, size // 2, size=(count, 2))], 1)


def random_image(rng, truths, found, classes, decimals):
    """Detections near truths and elsewhere, coarse enough for equal scores and exact thresholds."""
    true = random_boxes(rng, truths)
    near = true[rng.integers(truths, size=found)] if truths else random_boxes(rng, found)
    near = near + rng.integers(-3, 4, size=near.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    stray = rng.random(found) < 0.3
    near[stray] = random_boxes(rng, int(stray.sum()))
    scores = np.round(rng.random(found), decimals)
    label = rng.integers(classes, size=truths)
    named = rng.integers(classes, size=found)
    return dict(truths=[[*box, one] for box, one in zip(true.tolist(), label.tolist())],
                found=[[*box, score, one] for box, score, one in zip(near.tolist(), scores.tolist(), named.tolist())])


def detection(rng):
    one = [random_image(rng, *counts, 1, 2) for counts in [(3, 7), (1, 0), (0, 4), (0, 0), (5, 2), (2, 11), (1, 1), (4, 9)]]
    many = [random_image(rng, *counts, 3, 1) for counts in [(6, 15), (0, 3), (9, 20), (1, 1), (2, 0)]]
    many[0]["found"].append([1, 2, 11, 12, 0.5, 7])  # a class without truths
    many[1]["truths"].append([1, 2, 11, 12, 5])  # a class without detections
    crowded = [random_image(rng, 20, 131, 1, 2), random_image(rng, 2, 3, 1, 2)]
    missed = [dict(truths=[[0, 0, 5, 5, 0]], found=[[20, 20, 25, 25, 0.5, 0]])]
    # An IoU of exactly each threshold: n of 20 columns.
    exact = [dict(truths=[[0, 0, 20, 1, 0]], found=[[0, 0, part, 1, 0.9, 0]]) for part in range(8, 21)]
    # Two truths equally near to the first of two detections.
    equal = [dict(truths=[[0, 0, 10, 10, 0], [4, 0, 14, 10, 0]], found=[[2, 0, 12, 10, 0.9, 0], [4, 0, 14, 10, 0.8, 0]])]
    sets = []
    for images in [one, many, crowded, missed, exact, equal]:
        published = [image for image in images if image["truths"] and image["found"]]
        sets.append(dict(images=images, coco=coco(images), published=coco(published, PUBLISHED)))

    suppressed = []
    for count, classes, most in [(23, 1, 0.5), (41, 3, 0.3), (31, 1, 0.25), (1, 1, 0.5)]:
        boxes = random_boxes(rng, count, 24)
        scores = np.round(rng.random(count), 1)
        named = rng.integers(classes, size=count)
        tensors = torch.tensor(boxes, dtype=torch.float64), torch.tensor(scores)
        kept = torchvision.ops.batched_nms(*tensors, torch.tensor(named), most)
        if classes == 1:
            assert kept.tolist() == torchvision.ops.nms(*tensors, most).tolist()
        suppressed.append(dict(
            found=[[*box, score, one] for box, score, one in zip(boxes.tolist(), scores.tolist(), named.tolist())],
            most=most,
            kept=kept.tolist(),
        ))
    left, right = np.round(rng.random((2, 7, 4)), 3)
    left[:, 2:] += left[:, :2]
    right[:, 2:] += right[:, :2]
    iou = torchvision.ops.box_iou(torch.tensor(left), torch.tensor(right))
    return dict(sets=sets, suppressed=suppressed, boxes=[left.tolist(), right.tolist()], iou=numbers(iou))


# Retrieval


def ranks(similar, belongs):
    """The rank of the best candidate that belongs, behind all equally similar ones that do not."""
    result = []
    for row, own in zip(similar, belongs):
        order = scipy.stats.rankdata(-np.concatenate([[row[own].max()], row[~own]]), method="max")
        result.append(int(order[0]))
    return result


def retrieval(rng):
    films, dim = 41, 5
    texts = np.round(rng.normal(size=(films, dim)), 2)
    item = rng.integers(29, size=films)
    texts = texts[[np.flatnonzero(item == one)[0] for one in item]]
    images = np.round(texts + rng.normal(size=texts.shape), 2)
    _, first, own = np.unique(item, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct reports in order of appearance
    place = np.argsort(order)[own]
    similar = sk.pairwise.cosine_similarity(images, texts[np.sort(first)])
    belongs = place[:, None] == np.arange(len(first))
    forward, backward = ranks(similar, belongs), ranks(similar.T, belongs.T)
    assert forward == [sk.coverage_error(own[None], row[None]) for row, own in zip(similar, belongs)]
    recall = {str(k): sk.top_k_accuracy_score(place, similar, k=k, labels=np.arange(len(first))) for k in (1, 5, 10)}

    return dict(
        dim=dim,
        images=numbers(images),
        texts=numbers(texts),
        reports=[f"report {one}" for one in item],
        film_to_report=forward,
        report_to_film=backward,
        recall=recall,
        median=float(np.median(forward)),
        mean=float(np.mean(forward)),
        **classes(rng),
    )


def classes(rng):
    """P@k between films and texts of the same class; and with candidates drawn from few directions, so that many tie."""
    result = {}
    for name, candidates in [("distinct", np.round(rng.normal(size=(37, 3)), 2)), ("tied", np.eye(3)[rng.integers(3, size=37)])]:
        queries = np.round(rng.normal(size=(11, 3)), 2)
        asked, given = rng.integers(4, size=11), rng.integers(4, size=37)
        similar = sk.pairwise.cosine_similarity(queries, candidates).round(12)
        precisions = {}
        for k in (1, 5, 10):
            values = []
            for row, one in zip(similar, asked):
                last = np.sort(row)[-k]
                before, equal = row > last, row == last
                drawn = scipy.stats.hypergeom(equal.sum(), (given[equal] == one).sum(), k - before.sum()).mean()
                values.append(float(((given[before] == one).sum() + drawn) / k))
            precisions[str(k)] = values
        result[name] = dict(dim=3, queries=numbers(queries), candidates=numbers(candidates), asked=asked.tolist(),
                            given=given.tolist(), precisions=precisions,
                            ranks=ranks(similar, asked[:, None] == given))
    return result


# Intervals


def estimate(rng):
    """Intervals by scipy's percentile bootstrap, with twenty times the resamples."""

    def interval(data, statistic):
        found = scipy.stats.bootstrap(data, statistic, paired=True, vectorized=False, n_resamples=20000,
                                      method="percentile", rng=np.random.default_rng(7)).confidence_interval
        return dict(value=float(statistic(*data)), low=float(found.low), high=float(found.high))

    skewed = np.round(rng.exponential(size=41), 3)
    positive = np.arange(61) % 3 == 0
    scores = np.round(rng.normal(size=61) + positive, 2)
    auc = interval((positive, scores), lambda positive, scores: sk.roc_auc_score(positive, scores))
    return dict(mean=dict(values=numbers(skewed), **interval((skewed,), np.mean)),
                auc=dict(scores=numbers(scores), positive=bits(positive), **auc))


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for seed, make in enumerate([classification, overlap, grid, grounding, detection, retrieval, estimate], 1):
        text = json.dumps(make(np.random.default_rng(seed)), allow_nan=False, separators=(",", ":"))
        (out / f"{make.__name__}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
