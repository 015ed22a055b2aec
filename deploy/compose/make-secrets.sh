#!/bin/sh
# Writes the secrets of compose.yml that can be made up into secrets/, each once: a file that is there is not touched.
#   ./make-secrets.sh [FOLDER]
set -eu
folder=${1:-$(dirname "$0")/secrets}
umask 077
mkdir -p "$folder"

# Containers read these as users of their own: the files may be read, the folder that holds them may not be entered.
put() {
    if [ ! -e "$folder/$1" ]; then
        cat > "$folder/$1"
        chmod 644 "$folder/$1"
        echo "wrote $folder/$1"
    fi
}
random() {
    openssl rand -hex 32
}

random | put auth_secret
random | put metrics_token
random | put grafana_password
random | put rollback_token
random | put postgres_password
echo "postgres://pulsewire:$(cat "$folder/postgres_password")@postgres/pulsewire" | put database_url
printf 'requirepass %s\nsave ""\nappendonly no\n' "$(random)" | put redis_conf
echo "redis://:$(sed -n 's/^requirepass //p' "$folder/redis_conf")@redis:6379" | put redis_url

for name in slack_url pagerduty_key; do
    [ -e "$folder/$name" ] || echo "missing: $folder/$name, see README.md" >&2
done
