"""The curves of a training, in ink and in words; a training of one epoch has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from amc_mobile.report.facts import gather
from amc_mobile.report.figures import draw
from amc_mobile.report.training_figures import curve, sentence
from amc_mobile.report.write import write_report
from amc_mobile.runs import write_json
from amc_mobile.train.history import Epoch, History

EPOCHS = tuple(
    Epoch(number, loss, accuracy, 0.1, 30.0, 400.0)
    for number, loss, accuracy in ((1, 1.5, 0.6), (2, 0.9, 0.75), (3, 0.7, 0.74))
)
JUDGED = History(1, EPOCHS, 2, 9, True, 12_000, 1000, "trained", "cpu", "fp32", 1)
PLAIN = replace(
    JUDGED,
    epochs=tuple(replace(epoch, validation_accuracy=None) for epoch in EPOCHS),
    best_epoch=3,
    asked_epochs=3,
    stopped_early=False,
    validation_images=0,
)


def test_words_say_what_the_curve_shows():
    assert sentence(JUDGED).replace("\xa0", " ") == (
        "3 epochs of 9 (stopped early) of 12,000 images in 90 s. The loss went from 1.500 to 0.700. Best on validation "
        "images: 75.0 % after epoch 2."
    )
    assert "validation" not in sentence(PLAIN) and "stopped" not in sentence(PLAIN)


@pytest.mark.parametrize(("history", "panels", "marks"), [(JUDGED, 2, 3), (PLAIN, 1, 1)])
def test_accuracy_has_a_panel_of_its_own_where_it_is_known(history, panels, marks):
    picture = curve("training", "Training from scratch", history)
    assert len(picture.legend) == marks
    assert picture.svg.count(">loss<") == 1
    assert picture.svg.count(">right (%)<") == panels - 1
    assert picture.description == sentence(history)


def test_the_page_shows_every_training_of_the_run(run):
    before = {picture.name for picture in draw(gather(run))}
    assert not before & {"training", "finetuning"}
    write_json(run.training, JUDGED)
    write_json(run.finetuning, replace(PLAIN, epochs=PLAIN.epochs[:1]))
    assert {picture.name for picture in draw(gather(run))} - before == {"training"}
    write_json(run.finetuning, PLAIN)
    write_report(run)
    page = run.report.read_text(encoding="utf-8")
    assert "Training from scratch" in page and 'id="figure-finetuning"' in page
