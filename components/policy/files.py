"""Names of the files that training a policy writes; they need no training framework."""

POLICY_FILE = "policy.onnx"
CLONE_POLICY_FILE = "clone.onnx"
LOG_FILE = "training.csv"
SUMMARY_FILE = "summary.json"
