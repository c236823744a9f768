"""tritonclient with and without compression; arguments: HTTP and gRPC address of a rung."""

import sys

import numpy as np
import tritonclient.grpc
import tritonclient.http

HTTP, GRPC = sys.argv[1:]
PIXELS = np.full((48, 64, 3), 114, np.uint8)
CODINGS = (None, "gzip", "deflate")


def given(of, **binary):
    one = of.InferInput("image", list(PIXELS.shape), "UINT8")
    one.set_data_from_numpy(PIXELS, **binary)
    return [one]


with tritonclient.http.InferenceServerClient(HTTP) as client:
    print("ready", "http", client.is_server_live() and client.is_model_ready("nano"), sep="\t")
    for binary in (True, False):
        for sent in CODINGS:
            for wanted in CODINGS:
                answer = client.infer(
                    "nano",
                    given(tritonclient.http, binary_data=binary),
                    request_compression_algorithm=sent,
                    response_compression_algorithm=wanted,
                )
                boxes = answer.as_numpy("boxes")
                print("infer", f"http {binary} {sent} {wanted}", boxes.shape[1], sep="\t")

with tritonclient.grpc.InferenceServerClient(GRPC) as client:
    print("ready", "grpc", client.is_server_live() and client.is_model_ready("nano"), sep="\t")
    for coding in CODINGS:
        answer = client.infer("nano", given(tritonclient.grpc), compression_algorithm=coding)
        print("infer", f"grpc {coding}", answer.as_numpy("boxes").shape[1], sep="\t")
