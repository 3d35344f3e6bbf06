"""What every ONNX operator does to channel identities. An operator that is not here pins what arrives."""

from __future__ import annotations

from amc_mobile.graph import elementwise_rules, layer_rules, movement_rules, product_rules, reshape_rules
from amc_mobile.graph.walk import Rule

_ELEMENTWISE = (
    "Relu LeakyRelu PRelu Elu Selu Celu ThresholdedRelu Clip Sigmoid HardSigmoid HardSwish Swish Mish Tanh Erf Gelu "
    "Softplus Softsign Exp Log Sqrt Reciprocal Neg Abs Floor Ceil Round Sign Cast CastLike Identity Dropout Not Sin "
    "Cos Add Sub Mul Div Pow Min Max Sum Mean Where And Or Greater Less GreaterOrEqual LessOrEqual Equal"
)
_POOLS = "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool Resize Upsample"
_REDUCTIONS = "ReduceMean ReduceMax ReduceMin ReduceSum ReduceL2 ReduceSumSquare ReduceProd"

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), elementwise_rules.elementwise),
    **dict.fromkeys(_POOLS.split(), movement_rules.pool),
    **dict.fromkeys(_REDUCTIONS.split(), movement_rules.reduce),
    **dict.fromkeys(["Reshape", "Flatten", "Squeeze", "Unsqueeze"], reshape_rules.reshape),
    **dict.fromkeys(["BatchNormalization", "InstanceNormalization"], elementwise_rules.normalise),
    **dict.fromkeys(["Softmax", "LogSoftmax"], movement_rules.softmax),
    "DepthToSpace": movement_rules.depth_to_space,
    "Conv": layer_rules.conv,
    "Gemm": layer_rules.gemm,
    "MatMul": layer_rules.matmul,
    "Einsum": product_rules.einsum,
    "ConvTranspose": product_rules.conv_transpose,
    "Transpose": movement_rules.transpose,
    "Expand": movement_rules.expand,
    "Concat": movement_rules.concat,
    "Split": movement_rules.split,
    "Slice": movement_rules.slice_,
    "Pad": movement_rules.pad,
    "Gather": movement_rules.gather,
}
