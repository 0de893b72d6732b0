BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'autotune workers');
INSERT INTO "studies" VALUES(2,'E=8,N=256,H=512,topk=2 bf16 M=00001 replay small triton 3.9.0 [0315f90e]');
INSERT INTO "studies" VALUES(3,'E=8,N=256,H=512,topk=2 bf16 M=00064 replay small triton 3.9.0 [071926c1]');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',2,0);
INSERT INTO "study_directions" VALUES(3,'MINIMIZE',3,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,2,'study:metric_names','["\u00b5s"]');
INSERT INTO "study_system_attributes" VALUES(2,3,'study:metric_names','["\u00b5s"]');
INSERT INTO "study_system_attributes" VALUES(3,2,'dashboard:note_ver','2');
INSERT INTO "study_system_attributes" VALUES(4,2,'dashboard:note_str:0','"## E=8,topk=2,hidden=512,intermediate=256, 1 tokens\nReplayed from a recording of **small**, Triton 3.9.0.\n10 of 10 measurements.\n\n| engine\u2003| config\u2003| \u00b5s\u2003| default \u00b5s\u2003| speed-up |\n|---|---|---|---|---|\n| SGLang\u2003| `32x64x64 G8 w4 s3`\u2003| 20.3\u2003| 25.4\u2003| 1.25\u00d7 |\n| vLLM\u2003| `32x64x64 G8 w4 s3`\u2003| 20.3\u2003| not measured\u2003|  |\n\n![every trial, and the finalists](/artifacts/2/5/9e69e723-3c08-5a77-97b6-b5dbd0787809)\n\n### Best so far\n| config\u2003| \u00b5s\u2003| trial\u2003|  |\n|---|---|---|---|\n| `32x64x64 G8 w4 s3`\u2003| 20.3\u2003| 3\u2003|  |\n| `32x128x64 G8 w8 s4`\u2003| 22.7\u2003| 1\u2003|  |\n| `16x32x64 G8 w4 s4`\u2003| 22.8\u2003| 4\u2003|  |\n| `16x32x64 G1 w4 s3`\u2003| 25.4\u2003| 0\u2003| sglang default |\n| `16x64x64 G1 w8 s4`\u2003| 25.8\u2003| 2\u2003|  |\n\n### What the sampler knew\nIt starts from 1 other studies of this GPU and Triton, the most alike first: how much slower than the best each config was there.\n\n| study\u2003| likeness\u2003| trials\u2003| its best\u2003| here |\n|---|---|---|---|---|\n| E=8,N=256,H=512,topk=2 bf16 M=00064\u2003| 0.05\u2003| 10\u2003| `32x64x64 G8 w4 s3`\u2003| 1.00\u00d7 the best |\n"');
INSERT INTO "study_system_attributes" VALUES(5,2,'dashboard:artifacts:5:9e69e723-3c08-5a77-97b6-b5dbd0787809','"{\"artifact_id\": \"9e69e723-3c08-5a77-97b6-b5dbd0787809\", \"filename\": \"study.png\", \"mimetype\": \"image/png\", \"encoding\": null}"');
INSERT INTO "study_system_attributes" VALUES(6,3,'dashboard:artifacts:12:701dd2b5-7925-51d9-9857-106dca87231e','"{\"artifact_id\": \"701dd2b5-7925-51d9-9857-106dca87231e\", \"filename\": \"study.png\", \"mimetype\": \"image/png\", \"encoding\": null}"');
INSERT INTO "study_system_attributes" VALUES(7,3,'dashboard:note_ver','1');
INSERT INTO "study_system_attributes" VALUES(8,3,'dashboard:note_str:0','"## E=8,topk=2,hidden=512,intermediate=256, 64 tokens\nReplayed from a recording of **small**, Triton 3.9.0.\n10 of 10 measurements.\n\n| engine\u2003| config\u2003| \u00b5s\u2003| default \u00b5s\u2003| speed-up |\n|---|---|---|---|---|\n| SGLang\u2003| `32x64x64 G8 w4 s3`\u2003| 40.0\u2003| not measured\u2003|  |\n| vLLM\u2003| `32x64x64 G8 w4 s3`\u2003| 40.0\u2003| not measured\u2003|  |\n\n![every trial, and the finalists](/artifacts/3/12/701dd2b5-7925-51d9-9857-106dca87231e)\n\n### Best so far\n| config\u2003| \u00b5s\u2003| trial\u2003|  |\n|---|---|---|---|\n| `32x64x64 G8 w4 s3`\u2003| 40.0\u2003| 0\u2003|  |\n| `32x64x64 G8 w4 s4`\u2003| 40.9\u2003| 7\u2003|  |\n\n### What the sampler knew\nIt starts from 1 other studies of this GPU and Triton, the most alike first: how much slower than the best each config was there.\n\n| study\u2003| likeness\u2003| trials\u2003| its best\u2003| here |\n|---|---|---|---|---|\n| E=8,N=256,H=512,topk=2 bf16 M=00001\u2003| 0.05\u2003| 10\u2003| `32x64x64 G8 w4 s3`\u2003| 1.00\u00d7 the best |\n"');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,2,'E','8');
INSERT INTO "study_user_attributes" VALUES(2,2,'N','256');
INSERT INTO "study_user_attributes" VALUES(3,2,'H','512');
INSERT INTO "study_user_attributes" VALUES(4,2,'top_k','2');
INSERT INTO "study_user_attributes" VALUES(5,2,'M','1');
INSERT INTO "study_user_attributes" VALUES(6,2,'dtype','"bf16"');
INSERT INTO "study_user_attributes" VALUES(7,2,'device','"replay:small"');
INSERT INTO "study_user_attributes" VALUES(8,2,'triton','"3.9.0"');
INSERT INTO "study_user_attributes" VALUES(9,2,'model','"E=8,topk=2,hidden=512,intermediate=256"');
INSERT INTO "study_user_attributes" VALUES(10,2,'engines','["sglang", "vllm"]');
INSERT INTO "study_user_attributes" VALUES(11,2,'target_trials','10');
INSERT INTO "study_user_attributes" VALUES(12,2,'settings','{"model": {"model": null, "shape": "E=8,topk=2,hidden=512,intermediate=256", "tp_size": 1, "ep_size": 1, "ep_rank": null, "dtype": "auto", "per_channel_quant": false, "disable_shared_experts_fusion": false, "batch_sizes": [1, 64], "routing": "uniform", "topk_ids_dir": null}, "device": "replay:old.npz", "kernel": "fused", "provider": "autotune", "l2": "cold", "trials": 10, "timeout_s": null, "run_timeout_s": 120.0, "sampler": "surrogate", "stop_gain": 0.005, "robust": "mean", "engines": ["sglang", "vllm"], "output_dir": "@FOLDER@/configs", "warm_starts": [], "cache_dir": "@FOLDER@/cache", "jobs": 1, "gpus": "all", "compile_jobs": null, "compile_timeout_s": 60.0, "seed": 0}');
INSERT INTO "study_user_attributes" VALUES(13,2,'key','{"problem": {"experts": 8, "top_k": 2, "hidden": 512, "intermediate": 256, "tokens": 1, "dtype": "bf16", "block_shape": null, "per_channel_quant": false, "zero_points": false, "ep_size": 1, "ep_rank": 0, "fused_shared_experts": 0, "routing": "uniform", "kernel": "fused"}, "device": {"kind": "replay", "name": "small", "target": {"backend": "cuda", "arch": 90, "warp_size": 32}, "shared_bytes": 232448, "triton_version": "3.9.0", "method": "replay, 2 b8116ed757fb of replay"}, "space_fingerprint": "26a5ec481d1b"}');
INSERT INTO "study_user_attributes" VALUES(14,2,'layout','1');
INSERT INTO "study_user_attributes" VALUES(15,2,'search','{"sampler": "surrogate", "trials": 10, "stop_gain": 0.005}');
INSERT INTO "study_user_attributes" VALUES(16,2,'finished','""');
INSERT INTO "study_user_attributes" VALUES(17,3,'E','8');
INSERT INTO "study_user_attributes" VALUES(18,3,'N','256');
INSERT INTO "study_user_attributes" VALUES(19,3,'H','512');
INSERT INTO "study_user_attributes" VALUES(20,3,'top_k','2');
INSERT INTO "study_user_attributes" VALUES(21,3,'M','64');
INSERT INTO "study_user_attributes" VALUES(22,3,'dtype','"bf16"');
INSERT INTO "study_user_attributes" VALUES(23,3,'device','"replay:small"');
INSERT INTO "study_user_attributes" VALUES(24,3,'triton','"3.9.0"');
INSERT INTO "study_user_attributes" VALUES(25,3,'model','"E=8,topk=2,hidden=512,intermediate=256"');
INSERT INTO "study_user_attributes" VALUES(26,3,'engines','["sglang", "vllm"]');
INSERT INTO "study_user_attributes" VALUES(27,3,'target_trials','10');
INSERT INTO "study_user_attributes" VALUES(28,3,'settings','{"model": {"model": null, "shape": "E=8,topk=2,hidden=512,intermediate=256", "tp_size": 1, "ep_size": 1, "ep_rank": null, "dtype": "auto", "per_channel_quant": false, "disable_shared_experts_fusion": false, "batch_sizes": [1, 64], "routing": "uniform", "topk_ids_dir": null}, "device": "replay:old.npz", "kernel": "fused", "provider": "autotune", "l2": "cold", "trials": 10, "timeout_s": null, "run_timeout_s": 120.0, "sampler": "surrogate", "stop_gain": 0.005, "robust": "mean", "engines": ["sglang", "vllm"], "output_dir": "@FOLDER@/configs", "warm_starts": [], "cache_dir": "@FOLDER@/cache", "jobs": 1, "gpus": "all", "compile_jobs": null, "compile_timeout_s": 60.0, "seed": 0}');
INSERT INTO "study_user_attributes" VALUES(29,3,'key','{"problem": {"experts": 8, "top_k": 2, "hidden": 512, "intermediate": 256, "tokens": 64, "dtype": "bf16", "block_shape": null, "per_channel_quant": false, "zero_points": false, "ep_size": 1, "ep_rank": 0, "fused_shared_experts": 0, "routing": "uniform", "kernel": "fused"}, "device": {"kind": "replay", "name": "small", "target": {"backend": "cuda", "arch": 90, "warp_size": 32}, "shared_bytes": 232448, "triton_version": "3.9.0", "method": "replay, 2 b8116ed757fb of replay"}, "space_fingerprint": "26a5ec481d1b"}');
INSERT INTO "study_user_attributes" VALUES(30,3,'layout','1');
INSERT INTO "study_user_attributes" VALUES(31,3,'search','{"sampler": "surrogate", "trials": 10, "stop_gain": 0.005}');
INSERT INTO "study_user_attributes" VALUES(32,3,'finished','""');
INSERT INTO "study_user_attributes" VALUES(33,2,'machine','{"Autotune": "0.1.0", "Python": "3.11.7", "Torch": "2.13.0+cpu", "Optuna": "5.0.0"}');
INSERT INTO "study_user_attributes" VALUES(34,3,'machine','{"Autotune": "0.1.0", "Python": "3.11.7", "Torch": "2.13.0+cpu", "Optuna": "5.0.0"}');
INSERT INTO "study_user_attributes" VALUES(35,2,'best_us','20.31');
INSERT INTO "study_user_attributes" VALUES(36,2,'default_us','25.39');
INSERT INTO "study_user_attributes" VALUES(37,2,'speedup','1.2505');
INSERT INTO "study_user_attributes" VALUES(38,3,'best_us','40.03');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,7,0,2.33928751102973109254e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,8,0,2.17845075250832032054e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,9,0,2.1352952726370745041e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,10,0,2.1316368208814768792e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,11,0,2.17827318228927602206e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,13,0,5.28034124804392348542e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(7,14,0,49.8955385813924,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(8,15,0,4.28106111212299680337e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(9,16,0,4.40282916912618418328e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(10,17,0,4.20059415672000113772e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(11,18,0,4.19415104935674207817e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(12,20,0,4.19713916758761129699e+01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(13,21,0,4.39635494301904188301e+01,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(2,1,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(3,1,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(4,1,'GROUP_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(5,1,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(6,1,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(7,3,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(8,3,'BLOCK_SIZE_N',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(9,3,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(10,3,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(11,3,'num_warps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(12,3,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(13,4,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(14,4,'BLOCK_SIZE_N',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(15,4,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(16,4,'GROUP_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(17,4,'num_warps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(18,4,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(19,5,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(20,5,'BLOCK_SIZE_N',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(21,5,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(22,5,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(23,5,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(24,5,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(25,6,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(26,6,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(27,6,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(28,6,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(29,6,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(30,6,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(31,7,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(32,7,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(33,7,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(34,7,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(35,7,'num_warps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(36,7,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(37,8,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(38,8,'BLOCK_SIZE_N',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(39,8,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(40,8,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(41,8,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(42,8,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(43,9,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(44,9,'BLOCK_SIZE_N',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(45,9,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(46,9,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(47,9,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(48,9,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(49,10,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(50,10,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(51,10,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(52,10,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(53,10,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(54,10,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(55,11,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(56,11,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(57,11,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(58,11,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(59,11,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(60,11,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(61,12,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(62,12,'BLOCK_SIZE_N',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(63,12,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(64,12,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(65,12,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(66,12,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(67,13,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(68,13,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(69,13,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(70,13,'GROUP_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(71,13,'num_warps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(72,13,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(73,14,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(74,14,'BLOCK_SIZE_N',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(75,14,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(76,14,'GROUP_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(77,14,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(78,14,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(79,15,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(80,15,'BLOCK_SIZE_N',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(81,15,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(82,15,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(83,15,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(84,15,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(85,16,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(86,16,'BLOCK_SIZE_N',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(87,16,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(88,16,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(89,16,'num_warps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(90,16,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(91,17,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(92,17,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(93,17,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(94,17,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(95,17,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(96,17,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(97,18,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(98,18,'BLOCK_SIZE_N',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(99,18,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(100,18,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(101,18,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(102,18,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(103,19,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(104,19,'BLOCK_SIZE_N',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(105,19,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(106,19,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(107,19,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(108,19,'num_stages',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(109,20,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(110,20,'BLOCK_SIZE_N',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(111,20,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(112,20,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(113,20,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(114,20,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(115,21,'BLOCK_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(116,21,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(117,21,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(118,21,'GROUP_SIZE_M',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(119,21,'num_warps',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(120,21,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
INSERT INTO "trial_params" VALUES(121,23,'BLOCK_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [16, 32]}}');
INSERT INTO "trial_params" VALUES(122,23,'BLOCK_SIZE_N',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [32, 64, 128]}}');
INSERT INTO "trial_params" VALUES(123,23,'BLOCK_SIZE_K',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [64]}}');
INSERT INTO "trial_params" VALUES(124,23,'GROUP_SIZE_M',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [1, 8]}}');
INSERT INTO "trial_params" VALUES(125,23,'num_warps',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [4, 8]}}');
INSERT INTO "trial_params" VALUES(126,23,'num_stages',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 4]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 32, "BLOCK_SIZE_K": 64, "GROUP_SIZE_M": 1, "num_warps": 4, "num_stages": 3}');
INSERT INTO "trial_system_attributes" VALUES(2,12,'fixed_params','{"BLOCK_SIZE_M": 32, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 64, "GROUP_SIZE_M": 8, "num_warps": 4, "num_stages": 3}');
INSERT INTO "trial_system_attributes" VALUES(3,24,'fixed_params','{"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 32, "BLOCK_SIZE_K": 64, "GROUP_SIZE_M": 8, "num_warps": 4, "num_stages": 4}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'source','"sglang default"');
INSERT INTO "trial_user_attributes" VALUES(2,2,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'device','"replay:old.npz"');
INSERT INTO "trial_user_attributes" VALUES(4,2,'beat','0');
INSERT INTO "trial_user_attributes" VALUES(5,1,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(6,1,'outcome','"ok"');
INSERT INTO "trial_user_attributes" VALUES(7,1,'samples_us','[25.403, 25.42, 25.431, 25.375, 25.345]');
INSERT INTO "trial_user_attributes" VALUES(8,3,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(9,4,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(10,3,'outcome','"ok"');
INSERT INTO "trial_user_attributes" VALUES(11,3,'samples_us','[22.74, 22.737, 22.755, 22.711, 22.779]');
INSERT INTO "trial_user_attributes" VALUES(12,3,'speedup','1.1165');
INSERT INTO "trial_user_attributes" VALUES(13,4,'outcome','"ok"');
INSERT INTO "trial_user_attributes" VALUES(14,4,'samples_us','[25.778, 25.852, 25.829, 25.839, 25.86]');
INSERT INTO "trial_user_attributes" VALUES(15,4,'speedup','0.9831');
INSERT INTO "trial_user_attributes" VALUES(16,5,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(17,6,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(18,5,'outcome','"ok"');
INSERT INTO "trial_user_attributes" VALUES(19,5,'samples_us','[20.265, 20.356, 20.319, 20.289, 20.312]');
INSERT INTO "trial_user_attributes" VALUES(20,5,'speedup','1.2505');
INSERT INTO "trial_user_attributes" VALUES(21,6,'outcome','"ok"');
INSERT INTO "trial_user_attributes" VALUES(22,6,'samples_us','[22.782, 22.748, 22.781, 22.753, 22.721]');
INSERT INTO "trial_user_attributes" VALUES(23,6,'speedup','1.1159');
INSERT INTO "trial_user_attributes" VALUES(24,7,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(25,8,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(26,9,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(27,10,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(28,7,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(29,7,'samples_us','[23.343]');
INSERT INTO "trial_user_attributes" VALUES(30,7,'speedup','1.0856');
INSERT INTO "trial_user_attributes" VALUES(31,7,'reason','"the first sample is 15.2% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(32,8,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(33,8,'samples_us','[21.738]');
INSERT INTO "trial_user_attributes" VALUES(34,8,'speedup','1.1657');
INSERT INTO "trial_user_attributes" VALUES(35,8,'reason','"the first sample is 7.3% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(36,9,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(37,9,'samples_us','[21.371, 21.339]');
INSERT INTO "trial_user_attributes" VALUES(38,9,'speedup','1.1893');
INSERT INTO "trial_user_attributes" VALUES(39,9,'reason','"2 samples are 5.1% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(40,10,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(41,10,'samples_us','[21.34, 21.297]');
INSERT INTO "trial_user_attributes" VALUES(42,10,'speedup','1.1913');
INSERT INTO "trial_user_attributes" VALUES(43,10,'reason','"2 samples are 5.0% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(44,11,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(45,11,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(46,11,'samples_us','[21.736]');
INSERT INTO "trial_user_attributes" VALUES(47,11,'speedup','1.1658');
INSERT INTO "trial_user_attributes" VALUES(48,11,'reason','"the first sample is 7.3% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(49,12,'source','"best at 1 tokens"');
INSERT INTO "trial_user_attributes" VALUES(50,12,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(51,13,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(52,14,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(53,12,'outcome','"ok"');
INSERT INTO "trial_user_attributes" VALUES(54,12,'samples_us','[39.995, 40.048, 40.03, 40.091, 39.962]');
INSERT INTO "trial_user_attributes" VALUES(55,13,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(56,13,'samples_us','[52.764]');
INSERT INTO "trial_user_attributes" VALUES(57,13,'reason','"the first sample is 31.9% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(58,14,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(59,14,'samples_us','[49.858]');
INSERT INTO "trial_user_attributes" VALUES(60,14,'reason','"the first sample is 24.7% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(61,15,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(62,16,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(63,15,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(64,15,'samples_us','[42.778]');
INSERT INTO "trial_user_attributes" VALUES(65,15,'reason','"the first sample is 7.0% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(66,17,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(67,18,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(68,16,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(69,16,'samples_us','[43.995]');
INSERT INTO "trial_user_attributes" VALUES(70,16,'reason','"the first sample is 10.0% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(71,17,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(72,17,'samples_us','[41.956, 42.048]');
INSERT INTO "trial_user_attributes" VALUES(73,17,'reason','"2 samples are 4.9% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(74,18,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(75,18,'samples_us','[41.975, 41.901]');
INSERT INTO "trial_user_attributes" VALUES(76,18,'reason','"2 samples are 4.8% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(77,19,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(78,20,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(79,21,'worker','"host/4410/180980/b51b51de.4026531836/c769c4c6"');
INSERT INTO "trial_user_attributes" VALUES(80,19,'outcome','"ok"');
INSERT INTO "trial_user_attributes" VALUES(81,19,'samples_us','[40.906, 40.813, 40.848, 40.867, 40.912]');
INSERT INTO "trial_user_attributes" VALUES(82,20,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(83,20,'samples_us','[41.983, 41.952]');
INSERT INTO "trial_user_attributes" VALUES(84,20,'reason','"2 samples are 4.9% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(85,21,'outcome','"pruned"');
INSERT INTO "trial_user_attributes" VALUES(86,21,'samples_us','[43.93]');
INSERT INTO "trial_user_attributes" VALUES(87,21,'reason','"the first sample is 9.8% above the best''s"');
INSERT INTO "trial_user_attributes" VALUES(88,22,'worker','"host/4948/182793/b51b51de.4026531836/276e3f73"');
INSERT INTO "trial_user_attributes" VALUES(89,22,'device','"replay:old"');
INSERT INTO "trial_user_attributes" VALUES(90,22,'beat','0');
INSERT INTO "trial_user_attributes" VALUES(91,23,'worker','"host/4948/182793/b51b51de.4026531836/276e3f73"');
INSERT INTO "trial_user_attributes" VALUES(92,24,'source','"a neighbour"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,2.53949056511659208021e+01,'FINITE');
INSERT INTO "trial_values" VALUES(2,3,0,2.27445059799298618949e+01,'FINITE');
INSERT INTO "trial_values" VALUES(3,4,0,2.58314671854430315538e+01,'FINITE');
INSERT INTO "trial_values" VALUES(4,5,0,2.03081098730673765824e+01,'FINITE');
INSERT INTO "trial_values" VALUES(5,6,0,2.27570105350624807272e+01,'FINITE');
INSERT INTO "trial_values" VALUES(6,7,0,2.33928751102973109254e+01,'FINITE');
INSERT INTO "trial_values" VALUES(7,8,0,2.17845075250832032054e+01,'FINITE');
INSERT INTO "trial_values" VALUES(8,9,0,2.1352952726370745041e+01,'FINITE');
INSERT INTO "trial_values" VALUES(9,10,0,2.1316368208814768792e+01,'FINITE');
INSERT INTO "trial_values" VALUES(10,11,0,2.17827318228927602206e+01,'FINITE');
INSERT INTO "trial_values" VALUES(11,12,0,4.00253495865553929897e+01,'FINITE');
INSERT INTO "trial_values" VALUES(12,13,0,5.28034124804392348542e+01,'FINITE');
INSERT INTO "trial_values" VALUES(13,14,0,49.8955385813924,'FINITE');
INSERT INTO "trial_values" VALUES(14,15,0,4.28106111212299680337e+01,'FINITE');
INSERT INTO "trial_values" VALUES(15,16,0,4.40282916912618418328e+01,'FINITE');
INSERT INTO "trial_values" VALUES(16,17,0,4.20059415672000113772e+01,'FINITE');
INSERT INTO "trial_values" VALUES(17,18,0,4.19415104935674207817e+01,'FINITE');
INSERT INTO "trial_values" VALUES(18,19,0,4.08691070086250505264e+01,'FINITE');
INSERT INTO "trial_values" VALUES(19,20,0,4.19713916758761129699e+01,'FINITE');
INSERT INTO "trial_values" VALUES(20,21,0,4.39635494301904188301e+01,'FINITE');
INSERT INTO "trial_values" VALUES(21,2,0,0.0,'FINITE');
INSERT INTO "trial_values" VALUES(22,22,0,0.0,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,2,'COMPLETE','2026-11-29 10:58:30.866224','2026-11-29 10:58:30.878503');
INSERT INTO "trials" VALUES(2,0,1,'COMPLETE','2026-11-29 10:58:30.731284','2026-11-29 10:58:31.436277');
INSERT INTO "trials" VALUES(3,1,2,'COMPLETE','2026-11-29 10:58:30.932350','2026-11-29 10:58:30.937962');
INSERT INTO "trials" VALUES(4,2,2,'COMPLETE','2026-11-29 10:58:30.932677','2026-11-29 10:58:30.948349');
INSERT INTO "trials" VALUES(5,3,2,'COMPLETE','2026-11-29 10:58:30.972094','2026-11-29 10:58:30.983539');
INSERT INTO "trials" VALUES(6,4,2,'COMPLETE','2026-11-29 10:58:30.972174','2026-11-29 10:58:30.988850');
INSERT INTO "trials" VALUES(7,5,2,'PRUNED','2026-11-29 10:58:31.290554','2026-11-29 10:58:31.297177');
INSERT INTO "trials" VALUES(8,6,2,'PRUNED','2026-11-29 10:58:31.290656','2026-11-29 10:58:31.297271');
INSERT INTO "trials" VALUES(9,7,2,'PRUNED','2026-11-29 10:58:31.296286','2026-11-29 10:58:31.302558');
INSERT INTO "trials" VALUES(10,8,2,'PRUNED','2026-11-29 10:58:31.296340','2026-11-29 10:58:31.307278');
INSERT INTO "trials" VALUES(11,9,2,'PRUNED','2026-11-29 10:58:31.316216','2026-11-29 10:58:31.329121');
INSERT INTO "trials" VALUES(12,0,3,'COMPLETE','2026-11-29 10:58:31.352221','2026-11-29 10:58:31.359876');
INSERT INTO "trials" VALUES(13,1,3,'PRUNED','2026-11-29 10:58:31.359022','2026-11-29 10:58:31.365318');
INSERT INTO "trials" VALUES(14,2,3,'PRUNED','2026-11-29 10:58:31.359080','2026-11-29 10:58:31.373148');
INSERT INTO "trials" VALUES(15,3,3,'PRUNED','2026-11-29 10:58:31.374219','2026-11-29 10:58:31.377167');
INSERT INTO "trials" VALUES(16,4,3,'PRUNED','2026-11-29 10:58:31.374272','2026-11-29 10:58:31.389561');
INSERT INTO "trials" VALUES(17,5,3,'PRUNED','2026-11-29 10:58:31.386458','2026-11-29 10:58:31.391876');
INSERT INTO "trials" VALUES(18,6,3,'PRUNED','2026-11-29 10:58:31.386517','2026-11-29 10:58:31.391939');
INSERT INTO "trials" VALUES(19,7,3,'COMPLETE','2026-11-29 10:58:31.404334','2026-11-29 10:58:31.417810');
INSERT INTO "trials" VALUES(20,8,3,'PRUNED','2026-11-29 10:58:31.404396','2026-11-29 10:58:31.417892');
INSERT INTO "trials" VALUES(21,9,3,'PRUNED','2026-11-29 10:58:31.417051','2026-11-29 10:58:31.419749');
INSERT INTO "trials" VALUES(22,1,1,'COMPLETE','2026-11-29 10:58:47.813844','2026-11-29 10:58:47.845331');
INSERT INTO "trials" VALUES(23,10,3,'RUNNING','2026-11-29 10:58:47.839818',NULL);
INSERT INTO "trials" VALUES(24,11,3,'WAITING',NULL,NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
