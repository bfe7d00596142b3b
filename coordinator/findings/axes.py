"""Names of axes as the field uses them: synonyms, abbreviations and fillers, so that one axis has one key. Pure."""

import re
from functools import lru_cache

from coordinator.experiments.tokenizer import STOP_WORDS, list_words


def words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PHRASES: tuple[tuple[str, str], ...] = (
    (r"square root", "sqrt"), (r"log(arithms?|arithmic|1p|s)?( transform(ed|s|ation)?)?", "log"), (r"u ?net", "unet"),
    (r"conv(olution(s|al)?)?", "conv"), (r"vol(atility)?", "volatility"), (r"docs?|documents?", "document"),
    (r"letters?|characters?", "character"), (r"freez(e|es|ing)|frozen", "freeze"), (r"layer wi[sz]e", "per layer"),
    (r"vocab(ulary)?( size)?", "vocab"), (r"bayes(ian)?( optimi[sz]\w+)?", "bayesian"), (r"z ?loss", "zloss"),
    (r"nesterov( momentum)?", "nesterov"), (r"sub ?words?|byte pair encodings?", "bpe"), (r"learn(able|t)", "learned"),
    (r"flash ?(attention|attn)( ?[2-4])?|fa ?[2-4]", "flashattention"), (r"updates?|iterations?|steps?", "step"),
    (r"label smoothing|smooth(ed|ing)?( the)? labels", "labelsmoothing"), (r"(?<=kernel )fusion|fusion", "fuse"),
    (r"(gradient|activation) (check ?pointing|recomputation)|remat(erialization)?", "checkpointing"),
    (r"grad(ient)?s? accum(ulation)?( steps?)?|accumulat\w+( the| of)?( the)? grad(ient)?s?|accum(ulation)? steps?",
     "gradaccum"),
    (r"multi ?token prediction( heads?)?|mtp|predict\w* (several|multiple|more) tokens( ahead)?", "mtp"),
    (r"(adam|optimi[sz]er) (states?|moments?|buffers?)|moments? of adam", "optimizerstate"),
    (r"(standardi[sz]|normali[sz]|scal)(e|es|ed|ing|ation)( of)?( the)? (inputs?|features?)", "standardize"),
    (r"(sub ?)?sampl\w+( [\d.]+%?)?( of)?( the)? (columns?|features)( per tree)?", "colsample"), (r"shrinkage", "lr"),
    (r"decay(s|ing)?( the)? weights?( decay)?", "weight decay"), (r"dim(ension)?s? of( each| the)? heads?", "headdim"),
    (r"attn", "attention"), (r"minimum", "min"), (r"maximum", "max"), (r"swish", "silu"),
    (r"drop ?paths?|stochastic depths?", "stochdepth"), (r"standard deviations?|stddev", "std"),
    (r"(layer|batch|group|rms|instance|spectral) ?norm(aliz(ation|e|ed|ing))?", r"\1norm"),
    (r"fus(es|ed|ing|ion)", "fuse"), (r"environments?|envs", "env"), (r"discount( (factor|rate))?", "gamma"),
    (r"squeeze (and )?excit(ation|e)s?|se (block|layer|module)s?", "squeezeexcite"),
    (r"mixed precision|autocast|amp", "mixedprecision"), (r"half precision|float ?16", "fp16"), (r"float ?8", "fp8"),
    (r"bfloat16", "bf16"),
    (r"matrix multipl\w+|gemms?|matmuls", "matmul"),
    (r"(\d) bits?|int (\d)|q(\d)( \d| k( \w)?)?", r"int\1\2\3"), (r"look ?backs?( windows?)?", "lookback"),
    (r"(image|input) (size|resolution)s?|resolutions?|images", "resolution"),
    (r"annealing|(lr|learning rate) schedules?|schedules?|schedulers?", "schedule"),
    (r"(boosting rounds?|estimators?|trees?)", "trees"),
    (r"col(umn)? ?(sub)?sampl(e|es|ing)( ?by ?(tree|level|node))?|feature fraction", "colsample"),
    (r"(row )?sub ?sampl(e|es|ing)|bagging fraction", "subsample"),
    (r"winsori[sz](e|es|ed|ing|ation)|clip(ping|ped)?( the)? outliers", "clipoutliers"),
    (r"l2( (regulari[sz]ation|penalty|norm))?( strength)?|regulari[sz](e|es|ing|ation)( (strength|more|less))?|wd|"
     r"weight decays?|reg lambda", "weightdecay"), (r"((peak|base|initial|overall) )?((learning|step) rates?|lrs?|step ?size)", "lr"),
    (r"(final|minimum|min|end|last) lr( frac(tion)?)?|lr (floor|minimum)|decay( of)? (the )?lr to (zero|0)", "finallr"),
    (r"(finish|end|stop)(s|es|ing)? (at|with) [\d.]+ ?(%|percent)? of( the)? lr|decay( of)?( the)? lr (only )?to", "finallr"),
    (r"(cosine|linear|polynomial|sqrt|exponential)( shaped)?( lr)? (decay|anneal|cool ?down|warm ?down)", r"\1 schedule"),
    (r"lr at( the)? end( of( the)? (training|schedule|run))?", "finallr"),
    (r"rotary( (position|positional))?( embeddings?)?|rope", "rope"),
    (r"theta|base frequency|frequency base|frequenc(y|ies)", "base"),
    (r"hidden (dim|size)s? of( the)? (mlp|feed ?forward( layers?)?|ffn)|"
     r"(mlp|ffn?) (ratio|expansion|width|multiplier|hidden( dim| size)?|dim)|d ?ff|intermediate (size|dim)", "mlp"),
    (r"tokens per (batch|step)", "batch"), (r"mini ?batch(es)?", "batch"),
    (r"blend(ing|ed|s)?", "stack"), (r"recency", "recent"),
    (r"feed ?forward( (layers?|networks?))?|ffns?|ff|ffw|mlps?|hidden layers?", "mlp"),
    (r"(logits? )?soft ?cap(s|ping|ped)?( of( the)? logits?)?|logits? ?caps?|cap(s|ped|ping)?( of| on)?( the)? logits?",
     "softcap"), (r"warm ?downs?|cool ?downs?", "warmdown"), (r"warm ?ups?", "warmup"),
    (r"lr warmup", "warmup"), (r"lr (warmdown|decay)", "warmdown"), (r"muon lr|lr of muon", "matrix lr"),
    (r"max grad(ient)? norm|(grad(ient)?s?)( norm)? clip(ping|s|ped)?|clip(ping|s|ped)?( the)? grad(ient)?s?( norm)?",
     "gradclip"), (r"gqa|(grouped|multi) quer(y|ies) attention|(grouped )?(kv|key value) heads?", "kvheads"),
    (r"unembed(ding)?s?|(lm|output) ?head|output embeddings?", "lmhead"),
    (r"head (dim(ension)?|size)s?|heads of (dim(ension)?|size)", "headdim"),
    (r"(number of |n |num )?(attention )?heads?", "heads"),
    (r"(per )?device batch( size)?s?|micro ?batch( size)?", "devicebatch"),
    (r"(total |global )?batch(es)?( size)?s?|bs", "batch"),
    (r"(number of |n |num |more |fewer |extra |additional )layers?|(^|\d+ )layers?$|\d+ layers|depths?|deeper",
     "depth"),
    (r"model (dim|width)|n embd?|d model|hidden (size|dim|units?)", "width"),
    (r"activations?( functions?)?|non ?linearit(y|ies)", "activation"),
    (r"(squared|square) relu|relu squared|relu ?2|relu²", "relu2"),
    (r"q ?k norm(ali[sz]ation)?|normali[sz]e[sd]? (the )?(queries and keys|q and k|keys and queries)|q and k norm",
     "qknorm"), (r"(queries|q) and (keys|k)|(keys|k) and (queries|q)", "qk"),
    (r"value embeddings?|ve", "valueembedding"),
    (r"input (and|output embeddings?|embeddings?)", "embedding"), (r"per layer", "perlay"),
    (r"mse|mean squared errors?|squared loss", "squared error"), (r"gaps|nans|missing (values?|data)", "missing"),
    (r"imput(e|es|ed|ing|ation)", "interpolate"), (r"(token |word |input )?embed(ding)?s?|emb|wte", "embedding"),
    (r"(short |sliding |attention )*windows?( pattern)?|attention pattern", "window"),
    (r"(weight )?ty(ing|e|ed)|ties?|tied|shar(e|ed|ing)", "tie"), (r"beta ?2|second moment( decay)?|b2", "beta2"),
    (r"beta ?1|b1", "beta1"), (r"eps(ilon)?", "eps"),
    (r"seq(uence)?s? len(gth)?|context( (length|size))?|n ?ctx", "seqlen"),
    (r"init(iali[sz]ation)?( (std|scale|sd|stddev))?", "init"), (r"dropout( rate)?", "dropout"),
    (r"experts?|moe", "expert"),
    (r"(ema|(exponential )?moving averages?( decay)?|weight averag(es?|ing))( of( the)? (model )?(weights?|param\w*))?", "ema"), (r"(moving|rolling) (averages?|means?)", "rollingmean"),
)  # fmt: skip
_SYNONYMS = [(re.compile(rf"\b(?:{words})\b"), name) for words, name in _PHRASES]
ACTIVATIONS = words_of("relu relu2 gelu silu swish swiglu geglu reglu tanh mish elu softplus sigmoid")
FILLERS = words_of(
    "size ratio fraction frac value coefficient coef factor number count total parameter parameters "
    "hyperparameter hyperparameters hyperparams pattern percent function strength setting "
    "settings constant term level amount use using used try trying choose choosing find found finding run runs "
    "test tests tested apply applied get rid put give make new other different some more less algorithm "
    "optimisation optimization search method approach technique training train model network instead via help "
    "their each num n nr probability prob p rate variable variables over per during across enable "
    "how about happen happens rather place hurt hurts lead leads "
    "helps improve better beat beats outperform outperforms here first nonzero sample samples observation observations "
    "float floats objective several few many module modules one global expansion multiplier mult kept keep all block "
    "blocks we you they let lets pick picks pay worth afford allow want need version variant style shaped shape kind type "
    "whole entire every unchanged same effect impact matter matters benefit work works good idea go goes going"
)
"""Words that tell no axis from another."""

WEAK = {"quantiz", "layer", "resolution"}
"""Words that tell an axis only where no other one does."""

SURFACE = {
    "weightdecay": "weight decay wd", "lr": "lr learning rate", "finallr": "final lr", "rope": "rope rotary",
    "mlp": "mlp feed forward", "softcap": "softcap logit cap soft", "gradclip": "gradient clip",
    "kvheads": "kv heads", "depth": "depth layer", "activation": "relu gelu swiglu silu activation",
    "qknorm": "qk norm", "valueembedding": "value embedding ve", "lmhead": "unembedding lm_head",
    "tie": "tie tied tying", "eps": "eps epsilon", "stochdepth": "stochastic depth droppath",
    "squeezeexcite": "squeeze excitation se", "fp16": "fp16 float16 half",
    "mixedprecision": "mixed precision autocast amp fp16 bf16", "trees": "n_estimators trees rounds",
    "resolution": "resolution image size", "schedule": "schedule annealing",
    "rollingmean": "rolling moving average mean", "colsample": "colsample column",
    "clipoutliers": "winsorize clip outliers", "ema": "ema exponential moving average",
}  # fmt: skip
"""Words by which findings on an axis are looked for, beside its own."""


@lru_cache(maxsize=20_000)
def name_key(text: str) -> frozenset[str]:
    """The words that tell an axis from others, with one word for all that mean the same."""
    key = {stem_name(word) for word in list_names(text)}
    if key & ACTIVATIONS:
        key = (key - ACTIVATIONS - {"mlp"}) | {"activation"}
    if "activation" in key:
        key -= {"mlp"}
    return frozenset(key - WEAK or key)


def list_names(text: str) -> list[str]:
    """A text's words in their order, with one for all that mean the same, and without fillers."""
    text = re.sub(r"['\N{RIGHT SINGLE QUOTATION MARK}]s\b", "", text)
    plain = re.sub(r"(?<=[a-z]{3})(?=[A-Z][a-z]{3})|[_/()\[\],:;.'\"=<>→-]+", " ", text.replace("^2", "2")).casefold()
    plain = re.sub(r"(?<!ra)is(e|ed|es|er|ing|ation|ations)\b", r"iz\1", " ".join(plain.split()))
    for pattern, name in _SYNONYMS:
        plain = pattern.sub(name, plain)
    return [word for word in plain.split() if word not in STOP_WORDS and not {word, word.removesuffix("s")} & FILLERS]


def stem_name(word: str) -> str:
    """A word's stem; a name of an axis is one."""
    return word if word in NAMES else next(iter(list_words(word)), "")


NAMES = frozenset(name for _, name in _PHRASES) | ACTIVATIONS
