package account

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/pkg/store"
	accountv1 "github.com/chappe-im/chappe/proto/gen/chappe/account/v1"
	busv1 "github.com/chappe-im/chappe/proto/gen/chappe/bus/v1"
)

const (
	// maxTemplateName and maxPattern bound a template, in characters.
	maxTemplateName = 64
	maxPattern      = 1024
	// maxTemplates bounds the templates of an app.
	maxTemplates = 1000
	// maxLanguage bounds the name of a language, in characters.
	maxLanguage = 32
)

// reasonNoTemplate is the word of the wire contract for a template that does
// not exist.
const reasonNoTemplate = "EntityNotFoundException"

func noTemplate(name string) error {
	return errs.InvalidReason(reasonNoTemplate, name+" template is not exist")
}

// PutTemplate implements accountv1.PushServiceServer.
func (s *Service) PutTemplate(ctx context.Context, req *accountv1.PutTemplateRequest) (*accountv1.PutTemplateResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	switch {
	case req.GetName() == "" || !fits(req.GetName(), maxTemplateName):
		return nil, badParameter("name")
	case !fits(req.GetTitlePattern(), maxPattern):
		return nil, badParameter("title_pattern")
	case !fits(req.GetContentPattern(), maxPattern):
		return nil, badParameter("content_pattern")
	}
	now := s.now().UnixMilli()
	t := &accountv1.Template{Name: req.GetName(), TitlePattern: req.GetTitlePattern(), ContentPattern: req.GetContentPattern(), Updated: now}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := store.Row(ctx, tx, `INSERT INTO push_templates (app, name, title_pattern, content_pattern, created, updated)
			VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (app, name) DO UPDATE SET
			title_pattern = excluded.title_pattern, content_pattern = excluded.content_pattern, updated = excluded.updated
			RETURNING created`, []any{app.Number, t.GetName(), t.GetTitlePattern(), t.GetContentPattern(), now}, &t.Created)
		if err != nil {
			return fmt.Errorf("push template: %w", err)
		}
		n := 0
		if _, err := store.Row(ctx, tx, `SELECT COUNT(*) FROM push_templates WHERE app = $1`, []any{app.Number}, &n); err != nil {
			return fmt.Errorf("push template: %w", err)
		}
		if n > maxTemplates {
			return errs.Forbidden(fmt.Sprintf("the app has %d templates, which is as many as there may be", maxTemplates))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.PutTemplateResponse{Template: t}, nil
}

// GetTemplate implements accountv1.PushServiceServer.
func (s *Service) GetTemplate(ctx context.Context, req *accountv1.GetTemplateRequest) (*accountv1.GetTemplateResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if !fits(req.GetName(), maxTemplateName) {
		return nil, invalid()
	}
	t := &accountv1.Template{Name: req.GetName()}
	found, err := store.Row(ctx, s.db.Read(), `SELECT title_pattern, content_pattern, created, updated FROM push_templates WHERE app = $1 AND name = $2`,
		[]any{app.Number, req.GetName()}, &t.TitlePattern, &t.ContentPattern, &t.Created, &t.Updated)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, noTemplate(req.GetName())
	}
	return &accountv1.GetTemplateResponse{Template: t}, nil
}

// DeleteTemplate implements accountv1.PushServiceServer. Users who have chosen
// the template are told in the app's plain words from then on.
func (s *Service) DeleteTemplate(ctx context.Context, req *accountv1.DeleteTemplateRequest) (*accountv1.DeleteTemplateResponse, error) {
	app, err := s.app(req.GetOrg(), req.GetApp())
	if err != nil {
		return nil, err
	}
	if !fits(req.GetName(), maxTemplateName) {
		return nil, invalid()
	}
	t := &accountv1.Template{Name: req.GetName()}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		found, err := store.Row(ctx, tx, `DELETE FROM push_templates WHERE app = $1 AND name = $2
			RETURNING title_pattern, content_pattern, created, updated`,
			[]any{app.Number, req.GetName()}, &t.TitlePattern, &t.ContentPattern, &t.Created, &t.Updated)
		switch {
		case err != nil:
			return fmt.Errorf("push template: %w", err)
		case !found:
			return noTemplate(req.GetName())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountv1.DeleteTemplateResponse{Template: t}, nil
}

// choice is a column of users that holds what a user has chosen by name.
type choice string

const (
	choiceLanguage choice = "push_language"
	choiceTemplate choice = "push_template"
)

// choose sets what a user has chosen; empty is nothing.
func (s *Service) choose(ctx context.Context, c choice, org, appName, username, value string) error {
	app, err := s.app(org, appName)
	if err != nil {
		return err
	}
	id, err := s.findUserID(ctx, app.Number, username)
	if err != nil {
		return err
	}
	return s.commit(ctx, app, func(tx *sql.Tx, ev *events) error {
		n, err := store.Exec(ctx, tx, `UPDATE users SET `+string(c)+` = $1, modified = $2 WHERE app = $3 AND username = $4`,
			sql.NullString{String: value, Valid: value != ""}, s.now().UnixMilli(), app.Number, id)
		if err != nil {
			return fmt.Errorf("push settings: %w", err)
		}
		if n == 0 {
			return errs.NotFound()
		}
		ev.changed(id, busv1.UserEvent_CHANGE_PUSH_SETTINGS)
		return nil
	})
}

// chosen returns what a user has chosen; empty is nothing.
func (s *Service) chosen(ctx context.Context, c choice, org, appName, username string) (string, error) {
	app, err := s.app(org, appName)
	if err != nil {
		return "", err
	}
	id, err := s.findUserID(ctx, app.Number, username)
	if err != nil {
		return "", err
	}
	var value sql.NullString
	found, err := store.Row(ctx, s.db.Read(), `SELECT `+string(c)+` FROM users WHERE app = $1 AND username = $2`, []any{app.Number, id}, &value)
	if err == nil && !found {
		err = errs.NotFound()
	}
	return value.String, err
}

// SetNotificationLanguage implements accountv1.PushServiceServer.
func (s *Service) SetNotificationLanguage(ctx context.Context, req *accountv1.SetNotificationLanguageRequest) (*accountv1.SetNotificationLanguageResponse, error) {
	if req.TranslationLanguage == nil || !fits(req.GetTranslationLanguage(), maxLanguage) {
		return nil, badParameter("translationLanguage")
	}
	err := s.choose(ctx, choiceLanguage, req.GetOrg(), req.GetApp(), req.GetUsername(), req.GetTranslationLanguage())
	if err != nil {
		return nil, err
	}
	return &accountv1.SetNotificationLanguageResponse{Language: req.GetTranslationLanguage()}, nil
}

// GetNotificationLanguage implements accountv1.PushServiceServer.
func (s *Service) GetNotificationLanguage(ctx context.Context, req *accountv1.GetNotificationLanguageRequest) (*accountv1.GetNotificationLanguageResponse, error) {
	language, err := s.chosen(ctx, choiceLanguage, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	return &accountv1.GetNotificationLanguageResponse{Language: language}, nil
}

// SetUserTemplate implements accountv1.PushServiceServer. The template need not
// exist yet.
func (s *Service) SetUserTemplate(ctx context.Context, req *accountv1.SetUserTemplateRequest) (*accountv1.SetUserTemplateResponse, error) {
	if req.TemplateName == nil || !fits(req.GetTemplateName(), maxTemplateName) {
		return nil, badParameter("templateName")
	}
	err := s.choose(ctx, choiceTemplate, req.GetOrg(), req.GetApp(), req.GetUsername(), req.GetTemplateName())
	if err != nil {
		return nil, err
	}
	return &accountv1.SetUserTemplateResponse{TemplateName: req.GetTemplateName()}, nil
}

// GetUserTemplate implements accountv1.PushServiceServer.
func (s *Service) GetUserTemplate(ctx context.Context, req *accountv1.GetUserTemplateRequest) (*accountv1.GetUserTemplateResponse, error) {
	name, err := s.chosen(ctx, choiceTemplate, req.GetOrg(), req.GetApp(), req.GetUsername())
	if err != nil {
		return nil, err
	}
	return &accountv1.GetUserTemplateResponse{TemplateName: name}, nil
}
