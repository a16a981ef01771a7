"""What the names in an exporter's metadata say."""

import pytest

from burnish.frontends.onnx_names import task_of


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("LlamaForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("BertForMaskedLM", "fill-mask"),
        ("BertForSequenceClassification", "text-classification"),
        ("BertForTokenClassification", "token-classification"),
        ("BertForQuestionAnswering", "question-answering"),
        ("BertModel", "feature-extraction"),
        ("T5EncoderModel", "feature-extraction"),
        ("BertModelWithHeads", ""),
        ("LlamaForCausalLMWrapper", ""),
        ("", ""),
    ],
)
def test_a_class_of_transformers_says_what_it_is_for(architecture: str, task: str) -> None:
    assert task_of(architecture) == task
