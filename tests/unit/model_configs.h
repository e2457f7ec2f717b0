/* SPDX-License-Identifier: BSD-2-Clause */
/* config.json of models as they are found: what transformers 5.23 writes for each family's default
 * (without layer_types, where that is long), and what older versions have published. */
#ifndef MP_TESTS_MODEL_CONFIGS_H
#define MP_TESTS_MODEL_CONFIGS_H

static const char config_olmoe[] =
	"{\"architectures\": [\"OlmoeForCausalLM\"], \"attention_bias\": false, "
	"\"attention_dropout\": 0.0, \"bos_token_id\": null, \"clip_qkv\": null, \"dtype\": "
	"\"bfloat16\", \"eos_token_id\": 50279, \"hidden_act\": \"silu\", \"hidden_size\": 2048, "
	"\"initializer_range\": 0.02, \"intermediate_size\": 2048, \"max_position_embeddings\": "
	"4096, \"model_type\": \"olmoe\", \"norm_topk_prob\": false, \"num_attention_heads\": 16, "
	"\"num_experts\": 64, \"num_experts_per_tok\": 8, \"num_hidden_layers\": 16, "
	"\"num_key_value_heads\": 16, \"output_router_logits\": false, \"pad_token_id\": 1, "
	"\"rms_norm_eps\": 1e-05, \"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": "
	"\"default\"}, \"router_aux_loss_coef\": 0.01, \"tie_word_embeddings\": false, "
	"\"transformers_version\": \"5.23.0\", \"use_cache\": true, \"vocab_size\": 50304}";

static const char config_qwen3_moe[] =
	"{\"architectures\": [\"Qwen3MoeForCausalLM\"], \"attention_bias\": false, "
	"\"attention_dropout\": 0.0, \"bos_token_id\": null, \"decoder_sparse_step\": 1, "
	"\"dtype\": "
	"\"bfloat16\", \"eos_token_id\": null, \"hidden_act\": \"silu\", \"hidden_size\": 2048, "
	"\"initializer_range\": 0.02, \"intermediate_size\": 6144, \"max_position_embeddings\": "
	"32768, \"mlp_only_layers\": [], \"model_type\": \"qwen3_moe\", \"moe_intermediate_size\": "
	"768, \"norm_topk_prob\": false, \"num_attention_heads\": 32, \"num_experts_per_tok\": 8, "
	"\"num_hidden_layers\": 24, \"num_key_value_heads\": 4, \"num_local_experts\": 128, "
	"\"output_router_logits\": false, \"pad_token_id\": null, \"rms_norm_eps\": 1e-06, "
	"\"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"default\"}, "
	"\"router_aux_loss_coef\": 0.001, \"sliding_window\": null, \"tie_word_embeddings\": "
	"false, "
	"\"transformers_version\": \"5.23.0\", \"use_cache\": true, \"use_sliding_window\": false, "
	"\"vocab_size\": 151936}";

static const char config_mixtral[] =
	"{\"attention_dropout\": 0.0, \"bos_token_id\": 1, \"eos_token_id\": 2, \"head_dim\": "
	"null, "
	"\"hidden_act\": \"silu\", \"hidden_size\": 4096, \"initializer_range\": 0.02, "
	"\"intermediate_size\": 14336, \"max_position_embeddings\": 131072, \"model_type\": "
	"\"mixtral\", \"num_attention_heads\": 32, \"num_experts_per_tok\": 2, "
	"\"num_hidden_layers\": "
	"32, \"num_key_value_heads\": 8, \"num_local_experts\": 8, \"output_router_logits\": "
	"false, "
	"\"pad_token_id\": null, \"rms_norm_eps\": 1e-05, \"rope_parameters\": {\"rope_theta\": "
	"1000000.0, \"rope_type\": \"default\"}, \"router_aux_loss_coef\": 0.001, "
	"\"router_jitter_noise\": 0.0, \"sliding_window\": null, \"tie_word_embeddings\": false, "
	"\"transformers_version\": \"5.23.0\", \"use_cache\": true, \"vocab_size\": 32000}";

static const char config_deepseek_v2[] =
	"{\"attention_bias\": false, \"attention_dropout\": 0.0, \"bos_token_id\": 1, "
	"\"eos_token_id\": 2, \"first_k_dense_replace\": 0, \"head_dim\": 64, \"hidden_act\": "
	"\"silu\", "
	"\"hidden_size\": 4096, \"initializer_range\": 0.02, \"intermediate_size\": 11008, "
	"\"kv_lora_rank\": 512, \"max_position_embeddings\": 2048, \"mlp_bias\": false, "
	"\"model_type\": \"deepseek_v2\", \"moe_intermediate_size\": 1407, \"n_group\": null, "
	"\"n_routed_experts\": 64, \"n_shared_experts\": 2, \"norm_topk_prob\": false, "
	"\"num_attention_heads\": 32, \"num_experts_per_tok\": null, \"num_hidden_layers\": 32, "
	"\"num_key_value_heads\": 32, \"output_router_logits\": false, \"pad_token_id\": null, "
	"\"pretraining_tp\": 1, \"q_lora_rank\": 1536, \"qk_head_dim\": 192, \"qk_nope_head_dim\": "
	"128, \"qk_rope_head_dim\": 64, \"rms_norm_eps\": 1e-06, \"rope_parameters\": "
	"{\"rope_theta\": 10000.0, \"rope_type\": \"default\"}, \"routed_scaling_factor\": 1.0, "
	"\"tie_word_embeddings\": false, \"topk_group\": null, \"topk_method\": \"greedy\", "
	"\"transformers_version\": \"5.23.0\", \"use_cache\": true, \"v_head_dim\": 128, "
	"\"vocab_size\": 102400}";

static const char config_deepseek_v3[] =
	"{\"attention_bias\": false, \"attention_dropout\": 0.0, \"bos_token_id\": 0, "
	"\"eos_token_id\": 1, \"first_k_dense_replace\": 3, \"head_dim\": 64, \"hidden_act\": "
	"\"silu\", "
	"\"hidden_size\": 7168, \"initializer_range\": 0.02, \"intermediate_size\": 18432, "
	"\"kv_lora_rank\": 512, \"max_position_embeddings\": 4096, \"model_type\": "
	"\"deepseek_v3\", "
	"\"moe_intermediate_size\": 2048, \"n_group\": 8, \"n_routed_experts\": 256, "
	"\"n_shared_experts\": 1, \"norm_topk_prob\": true, \"num_attention_heads\": 128, "
	"\"num_experts_per_tok\": 8, \"num_hidden_layers\": 61, \"num_key_value_heads\": 128, "
	"\"num_nextn_predict_layers\": 1, \"output_router_logits\": false, \"pad_token_id\": null, "
	"\"pretraining_tp\": 1, \"q_lora_rank\": 1536, \"qk_head_dim\": 192, \"qk_nope_head_dim\": "
	"128, \"qk_rope_head_dim\": 64, \"rms_norm_eps\": 1e-06, \"rope_interleave\": true, "
	"\"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\": \"default\"}, "
	"\"routed_scaling_factor\": 2.5, \"tie_word_embeddings\": false, \"topk_group\": 4, "
	"\"transformers_version\": \"5.23.0\", \"use_cache\": true, \"v_head_dim\": 128, "
	"\"vocab_size\": 129280}";

static const char config_gpt_oss[] =
	"{\"attention_bias\": true, \"attention_dropout\": 0.0, \"bos_token_id\": null, "
	"\"eos_token_id\": null, \"head_dim\": 64, \"hidden_act\": \"silu\", \"hidden_size\": "
	"2880, "
	"\"initializer_range\": 0.02, \"intermediate_size\": 2880, \"max_position_embeddings\": "
	"131072, \"model_type\": \"gpt_oss\", \"num_attention_heads\": 64, "
	"\"num_experts_per_tok\": "
	"4, \"num_hidden_layers\": 36, \"num_key_value_heads\": 8, \"num_local_experts\": 128, "
	"\"output_router_logits\": false, \"pad_token_id\": null, \"rms_norm_eps\": 1e-05, "
	"\"rope_parameters\": {\"beta_fast\": 32.0, \"beta_slow\": 1.0, \"factor\": 32.0, "
	"\"original_max_position_embeddings\": 4096, \"rope_theta\": 150000.0, \"rope_type\": "
	"\"yarn\", \"truncate\": false}, \"router_aux_loss_coef\": 0.001, \"sliding_window\": 128, "
	"\"swiglu_alpha\": 1.702, \"swiglu_limit\": 7.0, \"tie_word_embeddings\": false, "
	"\"transformers_version\": \"5.23.0\", \"use_cache\": true, \"vocab_size\": 201088}";

static const char config_llama[] =
	"{\"attention_bias\": false, \"attention_dropout\": 0.0, \"bos_token_id\": 1, "
	"\"eos_token_id\": 2, \"head_dim\": 128, \"hidden_act\": \"silu\", \"hidden_size\": 4096, "
	"\"initializer_range\": 0.02, \"intermediate_size\": 11008, \"max_position_embeddings\": "
	"2048, \"mlp_bias\": false, \"model_type\": \"llama\", \"num_attention_heads\": 32, "
	"\"num_hidden_layers\": 32, \"num_key_value_heads\": 32, \"pad_token_id\": null, "
	"\"pretraining_tp\": 1, \"rms_norm_eps\": 1e-06, \"rope_parameters\": {\"rope_theta\": "
	"10000.0, \"rope_type\": \"default\"}, \"tie_word_embeddings\": false, "
	"\"transformers_version\": \"5.23.0\", \"use_cache\": true, \"vocab_size\": 32000}";

static const char config_deepseek_v2_lite[] =
	"{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"attention_bias\": false, "
	"\"aux_loss_alpha\": 0.001, \"bos_token_id\": 100000, \"eos_token_id\": 100001, "
	"\"first_k_dense_replace\": 1, \"hidden_size\": 2048, \"intermediate_size\": 10944, "
	"\"kv_lora_rank\": 512, \"max_position_embeddings\": 163840, \"model_type\": "
	"\"deepseek_v2\", "
	"\"moe_intermediate_size\": 1408, \"moe_layer_freq\": 1, \"n_group\": 1, "
	"\"n_routed_experts\": 64, \"n_shared_experts\": 2, \"norm_topk_prob\": false, "
	"\"num_attention_heads\": 16, \"num_experts_per_tok\": 6, \"num_hidden_layers\": 27, "
	"\"num_key_value_heads\": 16, \"q_lora_rank\": null, \"rope_scaling\": {\"beta_fast\": 32, "
	"\"beta_slow\": 1, \"factor\": 40, \"mscale\": 0.707, \"mscale_all_dim\": 0.707, "
	"\"original_max_position_embeddings\": 4096, \"type\": \"yarn\"}, \"rope_theta\": 10000, "
	"\"routed_scaling_factor\": 1.0, \"scoring_func\": \"softmax\", \"seq_aux\": true, "
	"\"topk_group\": 1, \"topk_method\": \"greedy\", \"torch_dtype\": \"bfloat16\", "
	"\"vocab_size\": "
	"102400}";

static const char config_deepseek_v3_fp8[] =
	"{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"bos_token_id\": 0, \"eos_token_id\": "
	"1, "
	"\"ep_size\": 1, \"first_k_dense_replace\": 3, \"hidden_size\": 7168, \"model_type\": "
	"\"deepseek_v3\", \"moe_layer_freq\": 1, \"n_group\": 8, \"n_routed_experts\": 256, "
	"\"n_shared_experts\": 1, \"norm_topk_prob\": true, \"num_experts_per_tok\": 8, "
	"\"num_hidden_layers\": 61, \"num_nextn_predict_layers\": 1, \"quantization_config\": "
	"{\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\", \"quant_method\": \"fp8\", "
	"\"weight_block_size\": [128, 128]}, \"rope_scaling\": {\"beta_fast\": 32, \"beta_slow\": "
	"1, "
	"\"factor\": 40, \"mscale\": 1.0, \"original_max_position_embeddings\": 4096, \"type\": "
	"\"yarn\"}, \"routed_scaling_factor\": 2.5, \"scoring_func\": \"sigmoid\", \"topk_group\": "
	"4, "
	"\"topk_method\": \"noaux_tc\", \"torch_dtype\": \"bfloat16\", \"vocab_size\": 129280}";

static const char config_qwen3_vl_moe[] =
	"{\"model_type\": \"qwen3_vl_moe\", \"text_config\": {\"attention_bias\": false, "
	"\"attention_dropout\": 0.0, \"bos_token_id\": null, \"decoder_sparse_step\": 1, "
	"\"eos_token_id\": null, \"head_dim\": 128, \"hidden_act\": \"silu\", \"hidden_size\": "
	"2048, "
	"\"initializer_range\": 0.02, \"intermediate_size\": 5632, \"max_position_embeddings\": "
	"128000, \"mlp_only_layers\": [], \"model_type\": \"qwen3_vl_moe_text\", "
	"\"moe_intermediate_size\": 1408, \"num_attention_heads\": 16, \"num_experts_per_tok\": 4, "
	"\"num_hidden_layers\": 4, \"num_key_value_heads\": 16, \"num_local_experts\": 60, "
	"\"output_router_logits\": false, \"pad_token_id\": null, \"rms_norm_eps\": 1e-06, "
	"\"rope_parameters\": {\"rope_theta\": 500000.0, \"rope_type\": \"default\"}, "
	"\"router_aux_loss_coef\": 0.001, \"sliding_window\": null, \"tie_word_embeddings\": true, "
	"\"use_cache\": true, \"vocab_size\": 151936}, \"tie_word_embeddings\": false, "
	"\"vision_config\": {\"depth\": 27, \"num_hidden_layers\": 27, \"model_type\": "
	"\"qwen3_vl_moe\"}}";

#endif
