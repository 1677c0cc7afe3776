from .engine import run_suite as run_suite
from .evaluate import evaluate_store as evaluate_store
from .inference_data import from_inference_data as from_inference_data, to_inference_data as to_inference_data
from .judge import judge_draws as judge_draws
from .leaderboard import build_leaderboard as build_leaderboard
from .plan import load_suite as load_suite
