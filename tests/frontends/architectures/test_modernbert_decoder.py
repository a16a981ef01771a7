"""ModernBERT as a decoder: the scores of a sequence; its logits are a matter of `tests/parity`."""

import numpy as np

from burnish.frontends.checkpoint import load_checkpoint
from tests import models
from tests.frontends.architectures.feeding import assert_near, run


def test_scores_of_a_sequence(tmp_path) -> None:
    """Its last token is scored behind a layer of its own."""
    given = models.SIZES | {"vocab_size": 96, "local_attention": 14, "num_labels": 3, "classifier_bias": True}
    oracle = models.made("ModernBertDecoderForSequenceClassification", **given, pad_token_id=0)
    module, ids = load_checkpoint(models.saved(oracle, tmp_path)), models.tokens((2, 19))
    scores = run(module, "forward", ids=ids, count=np.array([19, 19], "i4"))["logits"]
    assert_near(scores, models.logits_of(oracle, input_ids=ids))
