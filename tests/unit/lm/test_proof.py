"""The proof at load: whatever would make pooled maps wrong is found, and hooks take over or the model is refused."""

from unittest import mock

import numpy as np
import pytest
import torch
from architectures import DTYPES, proven
from models_maker import random_model

from memgrid.errors import UserError
from memgrid.lm import proof
from memgrid.lm.pooling import AttentionRecorder, attention_scores, weights_of
from memgrid.lm.proof import prove_interface, prove_pooling


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "forgotten"), [("gemma2", "softcap"), ("gpt_oss", "sinks"), ("llama", "scale"), ("mistral", "window")])
def test_attention_that_is_computed_otherwise_is_found(kind, forgotten, dtype):
    """Each extra is left out of our function in turn: the proof sees it in every dtype, and hooks read what is right."""
    extra = {"attn_logit_softcapping": 2.0} if kind == "gemma2" else {}
    lm = proven(kind, dtype, **extra)
    assert not lm.places

    def scores(query, key, value, attention_mask, scaling, softcap=None):
        if forgotten == "window":
            causal = torch.ones(attention_mask.shape[-2:], dtype=torch.bool).tril()
            attention_mask = torch.zeros_like(attention_mask).masked_fill(~causal, torch.finfo(attention_mask.dtype).min)
        scaling = 1.2 * scaling if forgotten == "scale" else scaling
        return attention_scores(query, key, value, attention_mask, scaling, None if forgotten == "softcap" else softcap)

    def weights(scores, s_aux=None):
        return weights_of(scores, None if forgotten == "sinks" else s_aux)

    with mock.patch("memgrid.lm.pooling.attention_scores", scores), mock.patch("memgrid.lm.pooling.weights_of", weights):
        tokens = np.random.default_rng(0).integers(0, 256, (1, 64))
        with pytest.raises(UserError, match="differs from the model's own by"), torch.inference_mode():
            prove_interface(lm, tokens)
        prove_pooling(lm)
        assert len(lm.places) == 3


def test_the_maximum_over_heads_is_compared_too():
    lm, usual = proven("llama"), AttentionRecorder.keep

    def keep(self, layer, mean, weights):
        usual(self, layer, mean, weights)
        if type(self) is AttentionRecorder:
            self.max[layer] *= 0.9

    caught = pytest.raises(UserError, match="the max over heads in layer 0 differs")
    with mock.patch.object(AttentionRecorder, "keep", keep), torch.inference_mode(), caught:
        prove_interface(lm, np.arange(64)[None])


def test_large_scores_in_float16_are_no_reason_to_refuse():
    """Eager attention overflows there; ours does not, and is proven against the model's own function in float32."""
    lm = random_model("gpt_neox", "float16")
    with torch.no_grad():
        for name, parameter in lm.model.named_parameters():
            if "query_key_value" in name:
                parameter.mul_(300)
    prove_pooling(lm)
    assert not lm.places


@pytest.mark.parametrize("kind", ["gpt_oss", "gpt_neo", "hy_v4"])
def test_long_sequences_are_compared_layer_by_layer(kind):
    with mock.patch.object(proof, "AT_ONCE", 8), mock.patch.object(proof, "own_report", side_effect=AssertionError):
        lm = proven(kind)
    assert bool(lm.places) == (kind != "gpt_oss")


@pytest.mark.parametrize("length", [1, 2, 63, 100])
@pytest.mark.parametrize("kind", ["mistral", "gpt_neo"])
def test_the_proof_is_of_the_length_that_is_used(kind, length):
    lm = proven(kind)
    with mock.patch.object(proof, "compare", side_effect=proof.compare) as comparing:
        prove_pooling(lm, length)
    assert {recorder.length for call in comparing.call_args_list for recorder in call.args[:2]} == {length}
    assert bool(lm.places) == (kind == "gpt_neo")


def test_an_encoder_that_reads_both_ways_is_refused():
    with pytest.raises(UserError, match=r"llm 'bert' \(BertLMHeadModel\) cannot be pooled: its layer 0 looks ahead"):
        proven("bert", is_decoder=False)


def test_positions_that_end_too_early_are_refused_in_one_sentence():
    with pytest.raises(UserError, match=r"cannot be pooled: it cannot read 64 tokens in torch.float32, IndexError: ") as caught:
        proven("gpt2", n_positions=32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["llama", "gpt_neo"])
def test_weights_that_are_not_numbers_are_refused(kind):
    lm = proven(kind)
    with torch.no_grad():
        next(parameter for name, parameter in lm.model.named_parameters() if "q_proj" in name)[0] = torch.nan
    with pytest.raises(UserError, match="cannot be pooled"):
        prove_pooling(lm)
