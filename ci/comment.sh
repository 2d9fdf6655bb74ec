#!/usr/bin/env bash
# Writes the result as the pull request's comment; a later run replaces it. Needs gh, GH_TOKEN, GITHUB_REPOSITORY,
# PULL_REQUEST and PYALLOC_OUT.
set -euo pipefail
body=${PYALLOC_OUT:-pyalloc-out}/memory.md
[ -f "$body" ] || exit 0
mark='<!-- pyalloc check -->'
comments=repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments
old=$(gh api --paginate "$comments" --jq ".[] | select(.body | startswith(\"$mark\")) | .id" | head -n 1)
if [ -n "$old" ]; then
    gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$old" --field "body=@$body" --silent
else
    gh api --method POST "$comments" --field "body=@$body" --silent
fi
