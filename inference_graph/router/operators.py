"""What a policy's network may consist of.

A policy is a small network of dense layers. Operators that loop, branch, load something, or make a
tensor whose size the observation decides are not among these: a network of them takes the same
time and memory for every observation, so one trial shows what every frame will cost.
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
"""Of ONNX's own domain."""
