"""The interface of Lookout for Vision's edge agent, written afresh, and its stubs by the ordinary generator.

Three generations are about: that of 2021 knows no masks, that of July 2022 has the mask's segment as field 3, the last
one as field 2.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAD = """
syntax = "proto3";
package AWS.LookoutVision;
service EdgeAgent {
  rpc DetectAnomalies(DetectAnomaliesRequest) returns (DetectAnomaliesResponse);
  rpc StartModel(StartModelRequest) returns (StartModelResponse);
  rpc StopModel(StopModelRequest) returns (StopModelResponse);
  rpc ListModels(ListModelsRequest) returns (ListModelsResponse);
  rpc DescribeModel(DescribeModelRequest) returns (DescribeModelResponse);
}
enum ModelStatus { STOPPED = 0; STARTING = 1; RUNNING = 2; FAILED = 3; STOPPING = 4; }
message SharedMemoryHandle { string name = 1; uint64 size = 2; uint64 offset = 3; }
message Bitmap {
  int32 width = 1;
  int32 height = 2;
  oneof data { bytes byte_data = 3; SharedMemoryHandle shared_memory_handle = 4; }
}
message ModelDescription {
  string model_component = 1; string lookout_vision_model_arn = 2; ModelStatus status = 3; string status_message = 4;
}
message ModelMetadata {
  string model_component = 1; string lookout_vision_model_arn = 2; ModelStatus status = 3; string status_message = 4;
}
message StartModelRequest { string model_component = 1; }
message StartModelResponse { ModelStatus status = 1; }
message StopModelRequest { string model_component = 1; }
message StopModelResponse { ModelStatus status = 1; }
message ListModelsRequest {}
message ListModelsResponse { repeated ModelMetadata models = 1; }
message DescribeModelRequest { string model_component = 1; }
message DescribeModelResponse { ModelDescription model_description = 1; }
message DetectAnomaliesResponse { DetectAnomalyResult detect_anomaly_result = 1; }
"""
OLD = """
message DetectAnomaliesRequest { string model_component = 1; Bitmap bitmap = 2; }
message DetectAnomalyResult { bool is_anomalous = 1; float confidence = 2; }
"""
NEW = """
message AnomalyMaskParams { SharedMemoryHandle shared_memory_handle = NUMBER; }
message DetectAnomaliesRequest {
  string model_component = 1; Bitmap bitmap = 2; AnomalyMaskParams anomaly_mask_params = 3;
}
message PixelAnomaly { float total_percentage_area = 1; string hex_color = 2; }
message Anomaly { string name = 1; PixelAnomaly pixel_anomaly = 2; }
message DetectAnomalyResult {
  bool is_anomalous = 1; float confidence = 2; Bitmap anomaly_mask = 3; repeated Anomaly anomalies = 4;
}
"""
GENERATIONS = {
    "of 2021": OLD,
    "of July 2022": NEW.replace("NUMBER", "3"),
    "the last": NEW.replace("NUMBER", "2"),
}


def generated(folder: Path, messages: str) -> None:
    """The stubs, by the ordinary generator."""
    (folder / "edge_agent.proto").write_text(HEAD + messages)
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I.",
        "--python_out=.",
        "--grpc_python_out=.",
        "edge_agent.proto",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
