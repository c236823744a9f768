"""What the networks that serve may consist of: operators of ONNX's own domain.

Operators that loop, branch, call other code or draw at random are not among them, so a network does
the same work for every input of a size, and one inference shows what each will cost.
"""

from __future__ import annotations

POLICY_OPERATORS = frozenset(
    {
        *("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "Add", "Sub", "Mul", "Div", "Pow"),
        *(
            "Neg",
            "Abs",
            "Sqrt",
            "Reciprocal",
            "Exp",
            "Log",
            "Erf",
            "Sign",
            "Floor",
            "Ceil",
            "Round",
        ),
        *("Sum", "Mean", "Min", "Max", "Clip", "Where", "Not", "And", "Or", "Xor"),
        *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"),
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "ThresholdedRelu"),
        *("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softsign", "Sin", "Cos"),
        *("Softmax", "LogSoftmax", "ArgMax", "ArgMin", "ReduceSum", "ReduceMean", "ReduceMax"),
        *("ReduceMin", "ReduceL2", "ReduceSumSquare", "LayerNormalization", "BatchNormalization"),
        *("Constant", "Identity", "Dropout", "Cast", "Shape", "Reshape", "Flatten", "Squeeze"),
        *("Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Gather"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    }
)
"""A policy is a small network of dense layers; no tensor's size is decided by its values."""
DETECTOR_OPERATORS = POLICY_OPERATORS | frozenset(
    {
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "Einsum", "GridSample"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Upsample"),
        *("InstanceNormalization", "GroupNormalization", "LpNormalization", "ReduceProd"),
        *("ConstantOfShape", "Range", "Expand", "Tile", "Pad", "DepthToSpace", "SpaceToDepth"),
        *("GatherElements", "GatherND", "ScatterElements", "ScatterND", "TopK", "Mod", "CastLike"),
        *("CumSum", "Trilu", "OneHot", "IsNaN", "IsInf", "Tan", "Atan", "Hardmax"),
    }
)
"""Ultralytics' detectors as they are exported, and their quantised forms, are made of these."""
